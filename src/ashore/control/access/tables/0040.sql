-- What a directory or a provisioner says of an account, apart from what security officers say.
ALTER TABLE access_account ADD COLUMN given_groups TEXT NOT NULL DEFAULT '';
ALTER TABLE access_account ADD COLUMN shut INTEGER NOT NULL DEFAULT 0;
