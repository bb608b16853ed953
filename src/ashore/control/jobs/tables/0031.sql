-- What a tenant stores is counted in bytes: jobs, as files and conversations are.
ALTER TABLE job ADD COLUMN num_bytes BIGINT NOT NULL DEFAULT 0;
UPDATE job SET num_bytes = COALESCE((
    SELECT LENGTH(payload) + COALESCE(LENGTH(result), 0) FROM job_body WHERE job_body.job_id = job.job_id
), 0);
CREATE INDEX job_stored ON job (tenant, num_bytes) WHERE num_bytes > 0;
