-- Whose a second factor is that is being set up, and from where a log-in with a provider was begun.
ALTER TABLE login_account ADD COLUMN factor_session TEXT NOT NULL DEFAULT '';
ALTER TABLE login_flow ADD COLUMN origin TEXT NOT NULL DEFAULT '';
