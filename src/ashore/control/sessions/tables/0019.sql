CREATE TABLE login_account (
    id               TEXT PRIMARY KEY,
    password         TEXT NOT NULL DEFAULT '',
    former           TEXT NOT NULL DEFAULT '[]',
    password_set_s   BIGINT NOT NULL DEFAULT 0,
    factor           TEXT NOT NULL DEFAULT '',
    factor_new       TEXT NOT NULL DEFAULT '',
    factor_step      BIGINT NOT NULL DEFAULT 0,
    recovery         TEXT NOT NULL DEFAULT '[]',
    invitation       TEXT NOT NULL DEFAULT '',
    invitation_ends_s BIGINT NOT NULL DEFAULT 0,
    invited_by       TEXT NOT NULL DEFAULT '',
    disabled         INTEGER NOT NULL DEFAULT 0,
    created_s        BIGINT NOT NULL,
    last_s           BIGINT
);
CREATE TABLE login_session (
    digest    TEXT PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    stage     TEXT NOT NULL,
    way       TEXT NOT NULL,
    owner     TEXT NOT NULL,
    tenant    TEXT NOT NULL,
    claims    TEXT NOT NULL DEFAULT '',
    sid       TEXT NOT NULL DEFAULT '',
    factors   TEXT NOT NULL DEFAULT '',
    opened_s  BIGINT NOT NULL,
    active_s  BIGINT NOT NULL,
    proof_s   BIGINT NOT NULL,
    ends_s    BIGINT NOT NULL,
    origin    TEXT NOT NULL DEFAULT '',
    agent     TEXT NOT NULL DEFAULT '',
    next_page TEXT NOT NULL DEFAULT ''
);
CREATE INDEX login_session_owner ON login_session (owner, opened_s);
CREATE INDEX login_session_end ON login_session (ends_s);
CREATE TABLE login_tries (
    subject        TEXT PRIMARY KEY,
    failures       INTEGER NOT NULL,
    since_s        BIGINT NOT NULL,
    at_s           BIGINT NOT NULL,
    locked_until_s BIGINT NOT NULL,
    locks          INTEGER NOT NULL
);
CREATE INDEX login_tries_at ON login_tries (at_s);
CREATE TABLE login_device (
    digest  TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    last_s  BIGINT NOT NULL
);
CREATE INDEX login_device_account ON login_device (account, last_s);
CREATE TABLE login_flow (
    state    TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    verifier TEXT NOT NULL,
    nonce    TEXT NOT NULL,
    visit    TEXT NOT NULL,
    next_page TEXT NOT NULL,
    session  TEXT NOT NULL DEFAULT '',
    ends_s   BIGINT NOT NULL
);
CREATE TABLE login_link (
    digest  TEXT PRIMARY KEY,
    key_id  TEXT NOT NULL,
    ends_s  BIGINT NOT NULL
);
CREATE TABLE login_logout (
    jti    TEXT PRIMARY KEY,
    ends_s BIGINT NOT NULL
);
