CREATE TABLE audit_subject (
    key_id    TEXT PRIMARY KEY,
    subject   TEXT NOT NULL,
    secret    TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    erased_s  BIGINT
);
CREATE UNIQUE INDEX audit_subject_live ON audit_subject (subject) WHERE erased_s IS NULL;
