-- What happened, for whoever follows it; the number is that of the epoch `events`.
CREATE TABLE event (
    event_id BIGINT PRIMARY KEY,
    at_ms    BIGINT NOT NULL,
    kind     TEXT NOT NULL,
    resource TEXT NOT NULL,
    reads    TEXT NOT NULL,
    about    TEXT NOT NULL
);
-- How far somebody has read them who must not read one twice, or none.
CREATE TABLE event_reader (
    name    TEXT PRIMARY KEY,
    reached BIGINT NOT NULL
);
