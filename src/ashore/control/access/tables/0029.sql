-- The key with which a key was made: whoever stole the one knows the other.
ALTER TABLE access_key ADD COLUMN made_with TEXT NOT NULL DEFAULT '';
CREATE INDEX access_key_made_with ON access_key (made_with) WHERE made_with <> '';
