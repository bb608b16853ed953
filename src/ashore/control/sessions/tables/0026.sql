-- Keys of people's authenticators (WebAuthn), and what an authenticator of a session is to sign.
CREATE TABLE login_passkey (
    id        TEXT PRIMARY KEY,
    account   TEXT NOT NULL,
    domain    TEXT NOT NULL,
    key       TEXT NOT NULL,
    counter   BIGINT NOT NULL,
    title     TEXT NOT NULL DEFAULT '',
    created_s BIGINT NOT NULL,
    last_s    BIGINT
);
CREATE INDEX login_passkey_account ON login_passkey (account);
ALTER TABLE login_session ADD COLUMN challenge TEXT NOT NULL DEFAULT '';
