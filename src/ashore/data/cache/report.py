"""What an API worker reports of its cached answers to the process that administers."""

from __future__ import annotations

from typing import Final

import msgspec

REPORT: Final = "/internal/cache"
"""Where a worker answers with a `CacheReport`."""


class CacheItem(msgspec.Struct, frozen=True):
    """The cache of one API worker, or the part of it that `tenant` and `model` select."""

    worker: int
    lookups: int
    """Excluding byte-identical repeats."""
    misses: int
    stored: int
    refused: int
    ready_hits: int
    """Hits by byte-identical repeats."""
    hits: dict[str, int]
    """All other hits, by tier."""
    entries: int
    num_bytes: int
    max_bytes: int
    evictions: int
    shared: str


class ShareOut(msgspec.Struct, frozen=True, kw_only=True):
    """The part of all API workers' caches that belongs to one tenant and model."""

    tenant: str
    """`*`: answers of public routes. `(others)`: pairs beyond the first 1,000 of a worker."""
    model: str
    entries: int
    num_bytes: int
    lookups: int
    """Misses and hits, including byte-identical repeats."""
    misses: int
    hits_exact: int
    hits_reworded: int
    stored: int
    refused: int
    evictions: int


class EntryOut(msgspec.Struct, frozen=True, kw_only=True):
    """A cached answer in one API worker, without its text."""

    worker: int
    entry: str
    tenant: str
    model: str
    release: str
    num_bytes: int
    age_s: int
    expires_at_s: float
    """Seconds since 1970."""


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """Contents and counters of the cache of one worker."""

    items: list[CacheItem]
    shares: list[ShareOut]
    held: list[EntryOut]


COUNTS: Final = tuple(name for name in ShareOut.__struct_fields__ if name not in ("tenant", "model"))
