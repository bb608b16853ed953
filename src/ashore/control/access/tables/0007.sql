ALTER TABLE access_key ADD COLUMN prefix TEXT NOT NULL DEFAULT '';
ALTER TABLE access_key ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE access_key ADD COLUMN owner_kind TEXT NOT NULL DEFAULT 'user';
ALTER TABLE access_key ADD COLUMN models TEXT NOT NULL DEFAULT '';
ALTER TABLE access_key ADD COLUMN networks TEXT NOT NULL DEFAULT '';
ALTER TABLE access_key ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE access_key ADD COLUMN expires_s INTEGER;
ALTER TABLE access_key ADD COLUMN last_used_s INTEGER;
ALTER TABLE access_key ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX access_key_changed ON access_key (changed);
CREATE INDEX access_key_owner ON access_key (principal, key_id);
CREATE INDEX access_key_expiry ON access_key (expires_s) WHERE expires_s IS NOT NULL AND revoked_s IS NULL;
CREATE TABLE access_tenant (
    name      TEXT PRIMARY KEY,
    title     TEXT NOT NULL,
    disabled  INTEGER NOT NULL,
    created_s INTEGER NOT NULL
);
INSERT INTO access_tenant SELECT DISTINCT tenant, '', 0, 0 FROM access_key WHERE tenant <> 'default';
INSERT INTO access_tenant VALUES ('default', '', 0, 0);
CREATE TABLE access_account (
    id        TEXT PRIMARY KEY,
    kind      TEXT NOT NULL,
    tenant    TEXT NOT NULL,
    title     TEXT NOT NULL,
    groups    TEXT NOT NULL,
    disabled  INTEGER NOT NULL,
    removed   INTEGER NOT NULL,
    created_s INTEGER NOT NULL,
    changed   INTEGER NOT NULL
);
CREATE INDEX access_account_changed ON access_account (changed);
CREATE TABLE access_group (name TEXT PRIMARY KEY, title TEXT NOT NULL, created_s INTEGER NOT NULL);
CREATE TABLE access_policy (
    version   INTEGER PRIMARY KEY,
    author    TEXT NOT NULL,
    comment   TEXT NOT NULL,
    document  TEXT NOT NULL,
    created_s INTEGER NOT NULL
);
CREATE TABLE access_consent (
    subject   TEXT NOT NULL,
    principal TEXT NOT NULL,
    created_s INTEGER NOT NULL,
    PRIMARY KEY (subject, principal)
);
