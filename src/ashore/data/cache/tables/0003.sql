CREATE TABLE curated_answer (
    tenant      TEXT NOT NULL,
    alias       TEXT NOT NULL,
    plain       TEXT NOT NULL,
    question    TEXT NOT NULL,
    answer      TEXT NOT NULL,
    pinned      INTEGER NOT NULL,
    created_s   BIGINT NOT NULL,
    expires_s   BIGINT,
    PRIMARY KEY (tenant, alias, plain)
);
