-- Events of background responses that are streamed, in chunks under the number of their last one; and conversations.
CREATE TABLE job_event (
    job_id TEXT NOT NULL,
    last   INTEGER NOT NULL,
    events BLOB NOT NULL,
    PRIMARY KEY (job_id, last)
);
CREATE TABLE conversation (
    conversation_id TEXT PRIMARY KEY,
    tenant          TEXT NOT NULL,
    account         TEXT NOT NULL,
    models          TEXT NOT NULL,
    metadata        TEXT NOT NULL,
    created_ms      INTEGER NOT NULL,
    expires_ms      INTEGER NOT NULL,
    num_bytes       INTEGER NOT NULL,
    next_place      INTEGER NOT NULL
);
CREATE INDEX conversation_expiry ON conversation (expires_ms);
CREATE INDEX conversation_tenant ON conversation (tenant);
CREATE TABLE conversation_item (
    conversation_id TEXT NOT NULL,
    place           INTEGER NOT NULL,
    item_id         TEXT NOT NULL,
    source          TEXT NOT NULL,
    item            BLOB NOT NULL,
    PRIMARY KEY (conversation_id, place)
);
CREATE UNIQUE INDEX conversation_item_id ON conversation_item (conversation_id, item_id);
