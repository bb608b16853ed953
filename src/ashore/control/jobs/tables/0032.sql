ALTER TABLE job ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_suspect ON job (not_before_ms) WHERE state = 'queued' AND deaths > 0;
