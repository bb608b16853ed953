CREATE TABLE site (
  name        TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL DEFAULT '',
  body        TEXT NOT NULL
);
CREATE INDEX site_by_fingerprint ON site (fingerprint);
CREATE TABLE site_model (
  digest     TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  sha256     TEXT NOT NULL,
  size       BIGINT NOT NULL,
  released_s BIGINT NOT NULL
);
CREATE TABLE site_rollout (
  id    TEXT PRIMARY KEY,
  ended INTEGER NOT NULL DEFAULT 0,
  body  TEXT NOT NULL
);
CREATE TABLE site_report (
  site     TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  PRIMARY KEY (site, sequence)
);
CREATE TABLE site_usage (
  site              TEXT NOT NULL,
  day               TEXT NOT NULL,
  tenant            TEXT NOT NULL,
  model             TEXT NOT NULL,
  requests          BIGINT NOT NULL,
  prompt_tokens     BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL,
  PRIMARY KEY (site, day, tenant, model)
);
CREATE TABLE site_checkpoint (
  site   TEXT NOT NULL,
  number BIGINT NOT NULL,
  line   TEXT NOT NULL,
  PRIMARY KEY (site, number)
);
CREATE TABLE site_vote (
  site     TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  part     INTEGER NOT NULL,
  model    TEXT NOT NULL,
  rating   TEXT NOT NULL,
  reason   TEXT NOT NULL,
  PRIMARY KEY (site, sequence, part)
);
