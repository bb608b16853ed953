-- What a home knows of its alerts: one document for each home, changed in one transaction. `looked_s`: when the home
-- last looked, so that the others notice its death; 0: it was stopped.
CREATE TABLE alert_book (
    home     TEXT PRIMARY KEY,
    looked_s BIGINT NOT NULL,
    body     TEXT NOT NULL
);
