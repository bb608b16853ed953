-- Jobs and files belong to an account: what stands before the # of the principal that a job runs for.
ALTER TABLE job ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN models TEXT NOT NULL DEFAULT '*';
ALTER TABLE stored_file ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE stored_file ADD COLUMN models TEXT NOT NULL DEFAULT '*';
UPDATE job SET account = CASE WHEN replace(principal, '#', '') = principal THEN principal
    ELSE rtrim(rtrim(principal, replace(principal, '#', '')), '#') END;
UPDATE stored_file SET account = COALESCE((
    SELECT job.account FROM job WHERE job.tenant = stored_file.tenant AND stored_file.purpose = 'batch_output'
    AND stored_file.filename IN (job.job_id || '_output.jsonl', job.job_id || '_error.jsonl')
), '');
UPDATE stored_file SET account = COALESCE((
    SELECT MIN(access_key.principal) FROM access_key WHERE access_key.tenant = stored_file.tenant
    GROUP BY access_key.tenant HAVING COUNT(DISTINCT access_key.principal) = 1
), '') WHERE account = '';
DROP INDEX job_once;
CREATE UNIQUE INDEX job_once ON job (tenant, account, kind, idempotency_key) WHERE idempotency_key <> '';
CREATE INDEX job_account_age ON job (tenant, account, created_ms, job_id);
CREATE INDEX stored_file_account_age ON stored_file (tenant, account, created_ms, file_id);
