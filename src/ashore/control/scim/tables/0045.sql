-- A new user is compared with everybody who was ever pushed.
CREATE INDEX scim_resource_account ON scim_resource (account);
