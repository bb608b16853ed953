"""Rows of the state, as the rest of ashore sees them."""

from __future__ import annotations

from dataclasses import dataclass


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
