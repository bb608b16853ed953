-- Users and groups that an identity provider pushed by SCIM. A row stays after it was deleted there (gone = 1), so that
-- nobody else gets its account.
CREATE TABLE scim_resource (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  external TEXT NOT NULL,
  account TEXT NOT NULL,
  body TEXT NOT NULL,
  gone INTEGER NOT NULL,
  created_s BIGINT NOT NULL,
  changed_s BIGINT NOT NULL,
  version INTEGER NOT NULL
);
CREATE INDEX scim_resource_name ON scim_resource (kind, tenant, name);
CREATE INDEX scim_resource_external ON scim_resource (kind, tenant, external);
