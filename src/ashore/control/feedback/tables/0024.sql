-- Runs that make a model of votes, and where each of their examples comes from. No text is in them.
CREATE TABLE learning_run (
    run_id     TEXT PRIMARY KEY,
    model      TEXT NOT NULL,
    base       TEXT NOT NULL,
    dataset    TEXT NOT NULL,
    state      TEXT NOT NULL,
    examples   TEXT NOT NULL,
    held       TEXT NOT NULL,
    verdict    TEXT NOT NULL,
    candidate  TEXT NOT NULL,
    adapter    TEXT NOT NULL,
    release    TEXT NOT NULL,
    why        TEXT NOT NULL,
    erased     INTEGER NOT NULL,
    started_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL
);
CREATE INDEX learning_run_model ON learning_run (model, started_ms);
CREATE TABLE learning_example (
    run_id      TEXT NOT NULL,
    feedback_id TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    account     TEXT NOT NULL,
    voter       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    held        TEXT NOT NULL,
    why         TEXT NOT NULL,
    PRIMARY KEY (run_id, feedback_id)
);
CREATE INDEX learning_example_account ON learning_example (tenant, account);
CREATE INDEX learning_example_voter ON learning_example (tenant, voter);
CREATE TABLE learning_pause (
    model      TEXT PRIMARY KEY,
    why        TEXT NOT NULL,
    paused_by  TEXT NOT NULL,
    paused_ms  BIGINT NOT NULL
);
