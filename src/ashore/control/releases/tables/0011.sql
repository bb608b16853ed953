CREATE TABLE release (
    name     TEXT PRIMARY KEY,
    alias    TEXT NOT NULL,
    document TEXT NOT NULL,
    course   TEXT NOT NULL
);
CREATE TABLE release_alias (name TEXT PRIMARY KEY, document TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE release_event (
    seq      BIGINT PRIMARY KEY,
    at_ms    BIGINT NOT NULL,
    alias    TEXT NOT NULL,
    release  TEXT NOT NULL,
    verb     TEXT NOT NULL,
    state    TEXT NOT NULL,
    actor    TEXT NOT NULL,
    why      TEXT NOT NULL,
    evidence TEXT NOT NULL
);
CREATE INDEX release_event_alias ON release_event (alias, seq);
CREATE INDEX release_event_release ON release_event (release, seq);
CREATE TABLE release_evidence (
    release TEXT NOT NULL,
    stage   TEXT NOT NULL,
    name    TEXT NOT NULL,
    slice   TEXT NOT NULL,
    tally   TEXT NOT NULL,
    PRIMARY KEY (release, stage, name, slice)
);
CREATE TABLE release_pair (
    release  TEXT NOT NULL,
    pair_id  TEXT NOT NULL,
    distance DOUBLE PRECISION NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (release, pair_id)
);
