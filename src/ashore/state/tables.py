"""Reads and writes of the tables. Each function runs inside a transaction that the caller opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ashore.state.model import KeyRow, TuningRow
from ashore.state.statement import execute

if TYPE_CHECKING:
    from sqlalchemy import Connection


def add_key(connection: Connection, row: KeyRow) -> None:
    """Store a key's digest. The same `key_id` again replaces the row."""
    execute(
        connection,
        "INSERT INTO access_key VALUES (:key_id, :digest, :principal, :tenant, :scopes, :created_s, :revoked_s) "
        "ON CONFLICT (key_id) DO UPDATE SET digest = excluded.digest, principal = excluded.principal, "
        "tenant = excluded.tenant, scopes = excluded.scopes, created_s = excluded.created_s, "
        "revoked_s = excluded.revoked_s",
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
    rows = execute(connection, "SELECT * FROM access_key WHERE revoked_s IS NULL ORDER BY key_id").mappings()
    return tuple(KeyRow(**{**row, "scopes": tuple(str(row["scopes"]).split())}) for row in rows)


def save_tuning(connection: Connection, row: TuningRow) -> None:
    """Record what `engine tune` chose; an older choice for the same model and goal is replaced."""
    execute(
        connection,
        "INSERT INTO tuning VALUES (:model, :goal, :choice, :report, :measured_at_s) "
        "ON CONFLICT (model, goal) DO UPDATE SET choice = excluded.choice, report = excluded.report, "
        "measured_at_s = excluded.measured_at_s",
        model=row.model,
        goal=row.goal,
        choice=row.choice,
        report=row.report,
        measured_at_s=row.measured_at_s,
    )


def load_tuning(connection: Connection, *, model: str, goal: str) -> TuningRow | None:
    """Return the choice recorded for this model and goal, or None. Whether it fits this machine, the caller decides."""
    query = "SELECT * FROM tuning WHERE model = :model AND goal = :goal"
    row = execute(connection, query, model=model, goal=goal).mappings().first()
    return None if row is None else TuningRow(**row)
