CREATE TABLE release_given (
    release  TEXT NOT NULL,
    level    INTEGER NOT NULL,
    at_s     BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (release, level)
);
