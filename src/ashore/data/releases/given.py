"""Answers that a release gave, stored in the state for workers that start after the next promotion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEPT: Final = 64
"""Answers of a level that the state keeps: enough to begin with."""
FORGOTTEN_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Given:
    """One answer of a release, as stored."""

    at_s: float
    """Monotonic in a worker; of the calendar in the state."""
    failed: bool
    per_token_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLevel:
    """Answers at one level of load."""

    level: int
    count: int
    failed: int
    late: int
    kept: tuple[Given, ...]
    """The last ones."""
