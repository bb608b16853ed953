CREATE TABLE tuning (
    model         TEXT NOT NULL,
    goal          TEXT NOT NULL,
    choice        TEXT NOT NULL,
    report        TEXT NOT NULL,
    measured_at_s INTEGER NOT NULL,
    PRIMARY KEY (model, goal)
);
