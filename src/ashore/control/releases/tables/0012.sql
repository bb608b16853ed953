CREATE TABLE release_burn (
    release   TEXT NOT NULL,
    objective TEXT NOT NULL,
    at_s      BIGINT NOT NULL,
    total     BIGINT NOT NULL,
    bad       BIGINT NOT NULL,
    PRIMARY KEY (release, objective, at_s)
);
