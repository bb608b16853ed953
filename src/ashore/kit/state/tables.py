"""Reads and writes of the tables. Each function runs inside a transaction of the caller."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ashore.kit.state.statement import execute, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRow:
    """Result of `engine tune` for one model on this machine, for one goal."""

    model: str
    """Store name without variant."""
    goal: str
    choice: str
    """JSON of the choice, with the digest of the model and the machine it was measured on."""
    report: str
    """JSON of everything measured: the evidence."""
    measured_at_s: int


def save_tuning(connection: Connection, row: TuningRow) -> None:
    """Store a result of `engine tune`, replacing an older one for the same model and goal."""
    upsert(connection, "tuning", asdict(row), key="model, goal")


def load_tuning(connection: Connection, *, model: str, goal: str) -> TuningRow | None:
    """Return the stored result for this model and goal, or None. The caller decides whether it fits this machine."""
    query = "SELECT * FROM tuning WHERE model = :model AND goal = :goal"
    row = execute(connection, query, model=model, goal=goal).mappings().first()
    return None if row is None else TuningRow(**row)
