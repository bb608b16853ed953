ALTER TABLE site ADD COLUMN renewed TEXT NOT NULL DEFAULT '';
CREATE INDEX site_by_renewed ON site (renewed);
