CREATE TABLE job (
    job_id             TEXT PRIMARY KEY,
    kind               TEXT NOT NULL,
    tenant             TEXT NOT NULL,
    principal          TEXT NOT NULL,
    state              TEXT NOT NULL,
    priority           INTEGER NOT NULL,
    created_ms         INTEGER NOT NULL,
    not_before_ms      INTEGER NOT NULL,
    deadline_ms        INTEGER,
    max_attempts       INTEGER NOT NULL,
    ttl_ms             INTEGER NOT NULL,
    cancel_mode        TEXT NOT NULL,
    idempotency_key    TEXT NOT NULL,
    webhook            TEXT NOT NULL,
    parent_id          TEXT NOT NULL,
    item               INTEGER NOT NULL,
    attempts           INTEGER NOT NULL,
    lease_number       INTEGER NOT NULL,
    lease_until_ms     INTEGER NOT NULL,
    owner              TEXT NOT NULL,
    cancel_requested   INTEGER NOT NULL,
    progress           TEXT NOT NULL,
    error_code         TEXT NOT NULL,
    error_message      TEXT NOT NULL,
    started_ms         INTEGER,
    finished_ms        INTEGER,
    expires_ms         INTEGER,
    children_total     INTEGER NOT NULL,
    children_succeeded INTEGER NOT NULL,
    children_failed    INTEGER NOT NULL
);
CREATE INDEX job_ready ON job (state, tenant, priority, created_ms, job_id);
CREATE INDEX job_lease ON job (state, lease_until_ms);
CREATE INDEX job_deadline ON job (deadline_ms) WHERE deadline_ms IS NOT NULL;
CREATE INDEX job_expiry ON job (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE INDEX job_child ON job (parent_id, item) WHERE parent_id <> '';
CREATE INDEX job_age ON job (tenant, created_ms, job_id);
CREATE UNIQUE INDEX job_once ON job (tenant, kind, idempotency_key) WHERE idempotency_key <> '';
CREATE TABLE job_body (job_id TEXT PRIMARY KEY, payload BLOB NOT NULL, result BLOB);
CREATE TABLE job_turn (tenant TEXT PRIMARY KEY, finish REAL NOT NULL);
CREATE TABLE stored_file (
    file_id    TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    filename   TEXT NOT NULL,
    purpose    TEXT NOT NULL,
    num_bytes  INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    complete   INTEGER NOT NULL
);
CREATE INDEX stored_file_age ON stored_file (tenant, created_ms, file_id);
CREATE TABLE file_piece (
    file_id TEXT NOT NULL,
    number  INTEGER NOT NULL,
    piece   BLOB NOT NULL,
    PRIMARY KEY (file_id, number)
);
