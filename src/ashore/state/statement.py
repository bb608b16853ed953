"""One way to run SQL text. SQLAlchemy is imported when the first statement runs, not when a command starts."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult, TextClause


def execute(connection: Connection, statement: str, **values: object) -> CursorResult[Any]:
    """Run one statement with named values (`:name`) inside the transaction of `connection`."""
    return connection.execute(_parsed(statement), values)


def execute_many(connection: Connection, statement: str, rows: list[dict[str, object]]) -> None:
    """Run one statement once for each row; nothing when there is none."""
    if rows:
        connection.execute(_parsed(statement), rows)


@lru_cache(maxsize=256)
def _parsed(statement: str) -> TextClause:
    from sqlalchemy import text

    return text(statement)
