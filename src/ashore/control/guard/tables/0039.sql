-- Guard lists: words that prompts and answers must not have.
CREATE TABLE guard_list (
    name       TEXT PRIMARY KEY,
    category   TEXT NOT NULL,
    words      TEXT NOT NULL,
    rules      TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_s  BIGINT NOT NULL
);
