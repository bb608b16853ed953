-- Acts that were done in the same transaction as their change, until the audit log has them.
CREATE TABLE audit_act (
    act_id TEXT PRIMARY KEY,
    home   TEXT NOT NULL,
    at_us  BIGINT NOT NULL,
    act    TEXT NOT NULL
);
