"""Reads and writes of the tables. Each function runs inside a transaction that the caller opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ashore.state.model import KeyRow, TuningRow

if TYPE_CHECKING:
    from sqlalchemy import Connection


def add_key(connection: Connection, row: KeyRow) -> None:
    """Store a key's digest. The same `key_id` again replaces the row."""
    _execute(
        connection,
        "INSERT OR REPLACE INTO access_key VALUES "
        "(:key_id, :digest, :principal, :tenant, :scopes, :created_s, :revoked_s)",
        key_id=row.key_id,
        digest=row.digest,
        principal=row.principal,
        tenant=row.tenant,
        scopes=" ".join(row.scopes),
        created_s=row.created_s,
        revoked_s=row.revoked_s,
    )


def list_keys(connection: Connection) -> tuple[KeyRow, ...]:
    """Return every key that is not revoked."""
    rows = _execute(connection, "SELECT * FROM access_key WHERE revoked_s IS NULL ORDER BY key_id").mappings()
    return tuple(KeyRow(**{**row, "scopes": tuple(str(row["scopes"]).split())}) for row in rows)


def save_tuning(connection: Connection, row: TuningRow) -> None:
    """Record what `engine tune` chose; an older choice for the same model and goal is replaced."""
    _execute(
        connection,
        "INSERT OR REPLACE INTO tuning VALUES (:model, :goal, :choice, :report, :measured_at_s)",
        model=row.model,
        goal=row.goal,
        choice=row.choice,
        report=row.report,
        measured_at_s=row.measured_at_s,
    )


def load_tuning(connection: Connection, *, model: str, goal: str) -> TuningRow | None:
    """Return the choice recorded for this model and goal, or None. Whether it fits this machine, the caller decides."""
    query = "SELECT * FROM tuning WHERE model = :model AND goal = :goal"
    row = _execute(connection, query, model=model, goal=goal).mappings().first()
    return None if row is None else TuningRow(**row)


def _execute(connection: Connection, statement: str, **values: object):  # type: ignore[no-untyped-def]
    from sqlalchemy import text

    return connection.execute(text(statement), values)
