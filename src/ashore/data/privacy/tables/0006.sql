CREATE TABLE privacy_policy (
    name       TEXT PRIMARY KEY,
    document   TEXT NOT NULL,
    version    INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    changed_s  BIGINT NOT NULL
);
