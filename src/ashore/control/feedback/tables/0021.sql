-- Answers that may be voted on, until they expire. `content` is sealed under a key of the account's.
CREATE TABLE feedback_receipt (
    tenant     TEXT NOT NULL,
    account    TEXT NOT NULL,
    answer_id  TEXT NOT NULL,
    model      TEXT NOT NULL,
    release    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    num_tokens INTEGER NOT NULL,
    key_id     TEXT NOT NULL,
    question   TEXT NOT NULL,
    answer     TEXT NOT NULL,
    made_ms    BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, account, answer_id)
);
CREATE INDEX feedback_receipt_id ON feedback_receipt (tenant, answer_id);
CREATE INDEX feedback_receipt_expiry ON feedback_receipt (expires_ms);
-- Votes. One of each voter on each answer.
CREATE TABLE feedback (
    feedback_id TEXT PRIMARY KEY,
    tenant      TEXT NOT NULL,
    account     TEXT NOT NULL,
    answer_id   TEXT NOT NULL,
    voter       TEXT NOT NULL,
    model       TEXT NOT NULL,
    release     TEXT NOT NULL,
    rating      TEXT NOT NULL,
    score       DOUBLE PRECISION,
    tags        TEXT NOT NULL,
    digest      TEXT NOT NULL,
    num_tokens  INTEGER NOT NULL,
    key_id      TEXT NOT NULL,
    question    TEXT NOT NULL,
    answer      TEXT NOT NULL,
    correction  TEXT NOT NULL,
    preferred   TEXT NOT NULL,
    said        TEXT NOT NULL,
    answered_ms BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    changed_ms  BIGINT NOT NULL,
    UNIQUE (tenant, account, answer_id, voter)
);
CREATE INDEX feedback_model ON feedback (model, changed_ms);
CREATE INDEX feedback_account ON feedback (tenant, account);
CREATE INDEX feedback_voter ON feedback (tenant, voter);
CREATE TABLE feedback_consent (
    tenant     TEXT PRIMARY KEY,
    purpose    TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_ms BIGINT NOT NULL
);
