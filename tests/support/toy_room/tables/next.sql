CREATE TABLE library_note (book TEXT NOT NULL, text TEXT NOT NULL);
