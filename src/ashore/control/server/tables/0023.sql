CREATE TABLE server_history (
    step_s  INTEGER NOT NULL,
    at_s    BIGINT NOT NULL,
    source  TEXT NOT NULL,
    figures TEXT NOT NULL,
    PRIMARY KEY (step_s, at_s, source)
);
