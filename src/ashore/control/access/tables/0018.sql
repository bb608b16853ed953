CREATE TABLE access_maker (account TEXT NOT NULL, maker TEXT NOT NULL, PRIMARY KEY (account, maker));
