"""The tables, and the steps that bring an older database to them.

A step never changes once it has been released; a change of the tables is a new step at the end of `MIGRATIONS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Migration = Sequence[str]
"""SQL statements that bring version n to version n + 1; all of them run in one transaction."""

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        """
        CREATE TABLE access_key (
            key_id      TEXT PRIMARY KEY,
            digest      TEXT NOT NULL UNIQUE,
            principal   TEXT NOT NULL,
            tenant      TEXT NOT NULL,
            scopes      TEXT NOT NULL,
            created_s   INTEGER NOT NULL,
            revoked_s   INTEGER
        )
        """,
        """
        CREATE TABLE tuning (
            model         TEXT NOT NULL,
            goal          TEXT NOT NULL,
            choice        TEXT NOT NULL,
            report        TEXT NOT NULL,
            measured_at_s INTEGER NOT NULL,
            PRIMARY KEY (model, goal)
        )
        """,
    ),
    ("CREATE TABLE epoch (kind TEXT PRIMARY KEY, value INTEGER NOT NULL)",),
    (
        "CREATE TABLE secret (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        """
        CREATE TABLE curated_answer (
            tenant      TEXT NOT NULL,
            alias       TEXT NOT NULL,
            plain       TEXT NOT NULL,
            question    TEXT NOT NULL,
            answer      TEXT NOT NULL,
            pinned      INTEGER NOT NULL,
            created_s   BIGINT NOT NULL,
            expires_s   BIGINT,
            PRIMARY KEY (tenant, alias, plain)
        )
        """,
    ),
)

SCHEMA_VERSION: Final = len(MIGRATIONS)
