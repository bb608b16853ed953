-- People of directories whom ashore knows. An account belongs to one person for ever.
CREATE TABLE directory_person (
  directory TEXT NOT NULL,
  guid TEXT NOT NULL,
  account TEXT NOT NULL,
  login TEXT NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (directory, guid)
);
CREATE UNIQUE INDEX directory_person_account ON directory_person (account);
-- Groups that are mapped, by name, and those below them, with a mark that changes when they do.
CREATE TABLE directory_group (
  directory TEXT NOT NULL,
  guid TEXT NOT NULL,
  name TEXT NOT NULL,
  dn TEXT NOT NULL,
  written TEXT NOT NULL,
  mark TEXT NOT NULL,
  PRIMARY KEY (directory, guid, name)
);
-- How the last sync of each directory ended, and the last look at it.
CREATE TABLE directory_sync (
  directory TEXT PRIMARY KEY,
  synced_s BIGINT NOT NULL,
  failed_s BIGINT NOT NULL,
  says TEXT NOT NULL,
  held TEXT NOT NULL
);
