-- Who goes next, whose lease ran out, and how many a tenant has: however many lines of a batch wait.
DROP INDEX job_ready;
DROP INDEX job_lease;
CREATE INDEX job_waiting ON job (kind, tenant, priority DESC, created_ms, job_id, not_before_ms)
    WHERE state = 'queued';
CREATE INDEX job_running ON job (lease_until_ms) WHERE state = 'running';
CREATE INDEX job_open ON job (tenant) WHERE parent_id = '' AND state IN ('queued', 'running');
