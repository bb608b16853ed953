CREATE TABLE fleet_node (
  node     TEXT NOT NULL,
  alias    TEXT NOT NULL,
  url      TEXT NOT NULL,
  drains   INTEGER NOT NULL DEFAULT 0,
  joined_s BIGINT NOT NULL,
  PRIMARY KEY (node, alias),
  UNIQUE (alias, url)
);
CREATE TABLE fleet_front (
  name    TEXT PRIMARY KEY,
  address TEXT NOT NULL,
  seen_s  BIGINT NOT NULL,
  views   TEXT NOT NULL
);
