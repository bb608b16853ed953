CREATE TABLE budget_want (
    rule_id   TEXT NOT NULL,
    subject   TEXT NOT NULL,
    starts_ms INTEGER NOT NULL,
    part      INTEGER NOT NULL,
    ends_ms   INTEGER NOT NULL,
    source    TEXT NOT NULL,
    asked_ms  INTEGER NOT NULL,
    PRIMARY KEY (rule_id, subject, starts_ms, source)
);
