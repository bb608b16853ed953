"""Rows of the state, as the rest of ashore sees them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One access key. The key itself is nowhere: only its digest is kept."""

    key_id: str
    digest: str
    """SHA-256 of the key, hexadecimal."""
    principal: str
    tenant: str
    scopes: tuple[str, ...]
    created_s: int
    revoked_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRow:
    """What `engine tune` chose for one model on this machine, for one goal."""

    model: str
    """Store name without variant."""
    goal: str
    choice: str
    """JSON of the choice, with the digest of the model and the machine it was measured on."""
    report: str
    """JSON of everything measured: the evidence."""
    measured_at_s: int
