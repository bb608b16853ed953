CREATE TABLE budget_rule (
    rule_id     TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    time_window TEXT NOT NULL,
    cap         INTEGER NOT NULL,
    api_key     TEXT NOT NULL,
    principal   TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    model       TEXT NOT NULL,
    offset_min  INTEGER NOT NULL
);
CREATE TABLE budget_count (
    rule_id   TEXT NOT NULL,
    subject   TEXT NOT NULL,
    starts_ms INTEGER NOT NULL,
    ends_ms   INTEGER NOT NULL,
    source    TEXT NOT NULL,
    settled   INTEGER NOT NULL,
    opened    INTEGER NOT NULL,
    granted   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (rule_id, subject, starts_ms, source)
);
CREATE INDEX budget_count_end ON budget_count (ends_ms);
CREATE TABLE budget_source (source TEXT PRIMARY KEY, expires_ms INTEGER NOT NULL);
CREATE TABLE usage_day (
    day               TEXT NOT NULL,
    tenant            TEXT NOT NULL,
    principal         TEXT NOT NULL,
    model             TEXT NOT NULL,
    source            TEXT NOT NULL,
    requests          INTEGER NOT NULL,
    hits              INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    refused           INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, principal, model, source)
);
