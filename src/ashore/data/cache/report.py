"""What an API worker reports of its cached answers to the process that administers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from ashore.data.cache.service import AnswerCache

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


async def report(cache: AnswerCache, worker: int, *, tenant: str, model: str, entry: str) -> CacheReport:
    """Return the report of a worker, or the part of it that tenant, model and entry select."""
    held = await cache.entry(entry) if entry else None
    return CacheReport(
        items=[CacheItem(worker=worker, **asdict(cache.stats(tenant=tenant, alias=model)))],
        shares=[
            ShareOut(model=one.alias, **{name: getattr(one, name) for name in ("tenant", *COUNTS)})
            for one in cache.shares(tenant=tenant, alias=model)
        ],
        held=[]
        if held is None
        else [
            EntryOut(
                worker=worker,
                entry=held.entry_id,
                tenant=held.tenant,
                model=held.alias,
                release=held.release,
                num_bytes=held.num_bytes,
                age_s=held.age_s,
                expires_at_s=held.expires_at_s,
            )
        ],
    )
