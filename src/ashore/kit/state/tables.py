"""Reads and writes of the tables. Each function runs inside a transaction of the caller."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ashore.kit.state.model import TuningRow
from ashore.kit.state.statement import execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection


def save_tuning(connection: Connection, row: TuningRow) -> None:
    """Store a result of `engine tune`, replacing an older one for the same model and goal."""
    upsert(connection, "tuning", asdict(row), key="model, goal")


def load_tuning(connection: Connection, *, model: str, goal: str) -> TuningRow | None:
    """Return the stored result for this model and goal, or None. The caller decides whether it fits this machine."""
    query = "SELECT * FROM tuning WHERE model = :model AND goal = :goal"
    row = execute(connection, query, model=model, goal=goal).mappings().first()
    return None if row is None else TuningRow(**row)
