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
    """What `engine tune` chose for one model on one machine."""

    model: str
    """Store name without variant."""
    machine: str
    """Fingerprint of the processor and its cores: a choice measured elsewhere is not used."""
    choice: str
    """JSON object: engine kind, variant, threads, options."""
    evidence: str
    """JSON: the measured rows the choice was made from."""
    created_s: int
