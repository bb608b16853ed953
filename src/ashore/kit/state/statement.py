"""One way to run SQL text. SQLAlchemy is imported when the first statement runs, not when a command starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult, TextClause

_AFTER: Final = "ashore after commit"

Committed = Callable[[], None]
CHANNEL: Final = "ashore_changed"
"""Postgres: where a commit that others wait for is announced."""
ANNOUNCEMENTS: Final = 2**31
"""SQLite: modulus of their counter, the signed 32-bit field of its header that is free for applications."""


def after_commit(connection: Connection, do: Committed) -> None:
    """Call `do` once the transaction of `Database.write` has committed. It must return quickly and not raise."""
    connection.info[_AFTER].append(do)


def collect(connection: Connection) -> list[Committed]:
    """Return the list that `after_commit` fills in the transaction that starts now."""
    found: list[Committed] = []
    connection.info[_AFTER] = found
    return found


Record = Callable[["Connection"], None]
"""Records an act in the transaction that does it."""


def unrecorded(connection: Connection) -> None:
    """A `Record` that records nothing."""


def execute(connection: Connection, statement: str, **values: object) -> CursorResult[Any]:
    """Run one statement with named values (`:name`) inside the transaction of `connection`."""
    return connection.execute(_parsed(statement), values)


def execute_many(connection: Connection, statement: str, rows: list[dict[str, object]]) -> None:
    """Run one statement once for each row; no-op without rows."""
    if rows:
        connection.execute(_parsed(statement), rows)


def among(column: str, names: Collection[str], values: dict[str, object]) -> str:
    """Return `column IN (...)` and add its few values to the others; without names, what is never true."""
    if not names:
        return "1 = 0"
    for at, name in enumerate(names):
        values[f"{column}{at}"] = name
    return f"{column} IN ({', '.join(f':{column}{at}' for at in range(len(names)))})"


def contains(*columns: str) -> str:
    """Return the condition that one of these columns contains what `pattern_of` makes of a search."""
    text = " || ' ' || ".join(columns)
    return f"AND LOWER({text}) LIKE :search ESCAPE '!'"


def pattern_of(search: str) -> dict[str, str]:
    """Return the place of a search in a query that `contains`; of an empty one none. Lower and upper case are equal."""
    literal = re.sub("[!%_]", lambda sign: f"!{sign[0]}", search.lower())
    return {"search": f"%{literal}%"} if search else {}


def insert(connection: Connection, table: str, *rows: Mapping[str, object], once: bool = False) -> int:
    """Insert rows with the columns of the first one; return how many were inserted.

    Args:
        connection: A writing transaction.
        table: Name of the table.
        rows: Values by column.
        once: Leave out a row whose key, of any kind, is there already.
    """
    return _insert(connection, table, rows, " ON CONFLICT DO NOTHING" if once else "")


def upsert(connection: Connection, table: str, *rows: Mapping[str, object], key: str, keep: Sequence[str] = ()) -> None:
    """Insert rows as `insert` does. One with the same `key` is changed instead, but for its columns in `keep`.

    Args:
        connection: A writing transaction.
        table: Name of the table.
        rows: Values by column.
        key: Columns of the key, with commas between.
        keep: Columns that stay as they are.
    """
    if rows:
        changes = [f"{name} = excluded.{name}" for name in rows[0] if name not in (*key.split(", "), *keep)]
        _insert(connection, table, rows, f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(changes)}")


def _insert(connection: Connection, table: str, rows: Sequence[Mapping[str, object]], end: str) -> int:
    if not rows:
        return 0
    values = ", ".join(f":{name}" for name in rows[0])
    statement = f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({values}){end}"
    return int(connection.execute(_parsed(statement), rows).rowcount)


def announce(connection: Connection) -> None:
    """Wake every `Changes` of this database when the transaction commits."""
    if is_postgres(connection):
        execute(connection, f"SELECT pg_notify('{CHANNEL}', '')")
        return
    told = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    connection.exec_driver_sql(f"PRAGMA user_version = {(told + 1) % ANNOUNCEMENTS}")


def is_postgres(connection: Connection) -> bool:
    """Return whether the database is Postgres."""
    return connection.dialect.name == "postgresql"


def row_lock(connection: Connection, *, skip_locked: bool = False) -> str:
    """Return the end of a SELECT whose rows will be changed; empty on SQLite, which has a single writer."""
    if not is_postgres(connection):
        return ""
    return " FOR UPDATE SKIP LOCKED" if skip_locked else " FOR UPDATE"


@lru_cache(maxsize=256)
def _parsed(statement: str) -> TextClause:
    from sqlalchemy import text

    return text(statement)
