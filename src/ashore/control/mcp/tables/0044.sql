-- Tools of other servers, as they were approved.
CREATE TABLE mcp_tool (
    server      TEXT NOT NULL,
    name        TEXT NOT NULL,
    digest      TEXT NOT NULL,
    definition  TEXT NOT NULL,
    approved_by TEXT NOT NULL,
    approved_s  BIGINT NOT NULL,
    PRIMARY KEY (server, name)
);
