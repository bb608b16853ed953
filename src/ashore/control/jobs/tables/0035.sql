-- Operations that are queued by themselves: when, and what came of the last turn. `home` is the name of the home whose
-- turns they are; empty: all homes of this state take turns together.
CREATE TABLE schedule (
    name      TEXT NOT NULL,
    home      TEXT NOT NULL,
    operation TEXT NOT NULL,
    plan      TEXT NOT NULL,
    due_ms    BIGINT,
    seen_ms   BIGINT NOT NULL,
    began_ms  BIGINT NOT NULL,
    ended_ms  BIGINT NOT NULL,
    good_ms   BIGINT NOT NULL,
    state     TEXT NOT NULL,
    tries     INTEGER NOT NULL,
    failures  INTEGER NOT NULL,
    job_id    TEXT NOT NULL,
    says      TEXT NOT NULL,
    PRIMARY KEY (home, name)
);
INSERT INTO schedule SELECT 'learn run ' || model, '', 'learn run', '', NULL, seen_ms, began_ms, ended_ms,
    CASE state WHEN 'done' THEN ended_ms ELSE 0 END, state, tries, 0, '', says FROM learning_turn;
DROP TABLE learning_turn;
