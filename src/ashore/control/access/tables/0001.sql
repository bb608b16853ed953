CREATE TABLE access_key (
    key_id      TEXT PRIMARY KEY,
    digest      TEXT NOT NULL UNIQUE,
    principal   TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    scopes      TEXT NOT NULL,
    created_s   INTEGER NOT NULL,
    revoked_s   INTEGER
);
