-- Assistants: a name, a system prompt and a model, of one person, perhaps shared with a group.
CREATE TABLE assistant (
    tenant     TEXT NOT NULL,
    owner      TEXT NOT NULL,
    name       TEXT NOT NULL,
    model      TEXT NOT NULL,
    prompt     TEXT NOT NULL,
    shared     TEXT NOT NULL,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, owner, name)
);
CREATE INDEX assistant_shared ON assistant (tenant, shared);
CREATE INDEX conversation_account ON conversation (account, expires_ms);
