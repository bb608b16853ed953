CREATE TABLE dp_budget (
    id                TEXT PRIMARY KEY,
    tenant            TEXT NOT NULL,
    dataset           TEXT NOT NULL,
    epsilon           BIGINT NOT NULL,
    delta             BIGINT NOT NULL,
    questions_epsilon BIGINT NOT NULL,
    questions_delta   BIGINT NOT NULL,
    rdp_order         INTEGER NOT NULL,
    capacity          BIGINT NOT NULL,
    carried_epsilon   BIGINT NOT NULL,
    carried_delta     BIGINT NOT NULL,
    granted_by        TEXT NOT NULL,
    granted_s         BIGINT NOT NULL,
    closed_s          BIGINT NOT NULL
);
CREATE UNIQUE INDEX dp_budget_of ON dp_budget (tenant, dataset) WHERE closed_s = 0;
CREATE TABLE dp_spend (
    id       TEXT PRIMARY KEY,
    budget   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    state    TEXT NOT NULL,
    units    BIGINT NOT NULL,
    delta    BIGINT NOT NULL,
    what     TEXT NOT NULL,
    actor    TEXT NOT NULL,
    began_s  BIGINT NOT NULL,
    ended_s  BIGINT NOT NULL,
    answer   TEXT NOT NULL,
    question TEXT NOT NULL
);
CREATE INDEX dp_spend_of ON dp_spend (budget, state);
CREATE INDEX dp_spend_question ON dp_spend (budget, question);
