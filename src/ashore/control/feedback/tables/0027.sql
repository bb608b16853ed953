-- A vote down purges the cached answer.
ALTER TABLE feedback_receipt ADD COLUMN entry_id TEXT NOT NULL DEFAULT '';
-- The last turn of each model that learns by itself, and the lease of the one run over all nodes.
CREATE TABLE learning_turn (
    model    TEXT PRIMARY KEY,
    seen_ms  BIGINT NOT NULL,
    began_ms BIGINT NOT NULL,
    ended_ms BIGINT NOT NULL,
    state    TEXT NOT NULL,
    tries    INTEGER NOT NULL,
    says     TEXT NOT NULL
);
CREATE TABLE learning_lease (
    name     TEXT PRIMARY KEY,
    owner    TEXT NOT NULL,
    holder   TEXT NOT NULL,
    until_ms BIGINT NOT NULL
);
