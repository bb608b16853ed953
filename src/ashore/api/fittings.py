"""What the request path of one worker stands on besides engine hosts: the state, its epochs, the cache."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from pathlib import Path

from ashore.cache import (
    CURATED_EPOCH,
    AnswerCache,
    CuratedAnswers,
    Epochs,
    FixedEpochs,
    SharedTier,
    cache_secret,
    load_pairs,
)
from ashore.core import Clock
from ashore.metrics import Metrics
from ashore.serving import StateLink, Topology
from ashore.state import Database, EpochWatch, open_state

log = logging.getLogger("ashore.worker")


@dataclass(slots=True, kw_only=True)
class Fittings:
    """All of it, for one worker. `close` gives it back."""

    database: Database | None
    """None where the topology names no state."""
    watch: EpochWatch | None
    cache: AnswerCache

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        await self.cache.close()
        if self.watch is not None:
            await asyncio.to_thread(self.watch.close)
        if self.database is not None:
            self.database.close()


async def fit(topology: Topology, clock: Clock, metrics: Metrics) -> Fittings:
    """Open the state and make the cache. Runs inside the worker's event loop.

    Raises:
        AshoreError: the state cannot be opened, or a Redis URL is malformed.
    """
    database = await asyncio.to_thread(_open, topology.state, clock)
    watch: EpochWatch | None = None
    secret = secrets.token_bytes(32)
    curated = CuratedAnswers()
    if database is not None:
        watch = await asyncio.to_thread(EpochWatch(database).start)
        secret = await asyncio.to_thread(_secret, database)
        await asyncio.to_thread(_load_curated, database, curated)
        watch.on_change(lambda kind, value: _load_curated(database, curated) if kind == CURATED_EPOCH else None)
    epochs: Epochs = FixedEpochs() if watch is None else watch
    cache = AnswerCache(
        topology.cache,
        secret=secret,
        epochs=epochs,
        clock=clock,
        shared=_shared(topology, clock, metrics),
        curated=curated,
    )
    return Fittings(database=database, watch=watch, cache=cache)


def _open(link: StateLink, clock: Clock) -> Database | None:
    if not link.url and not link.path:
        return None
    return open_state(link.url, default=Path(link.path), snapshots=Path(link.snapshots), clock=clock, say=log.info)


def _secret(database: Database) -> bytes:
    with database.write() as connection:
        return cache_secret(connection)


def _load_curated(database: Database, curated: CuratedAnswers) -> None:
    with database.read() as connection:
        curated.replace(load_pairs(connection))


def _shared(topology: Topology, clock: Clock, metrics: Metrics) -> SharedTier | None:
    if topology.redis is None:
        return None
    from ashore.cache.valkey import ValkeyTier, connect

    def told(state: str) -> None:
        metrics.set("ashore_shared_cache_up", float(state == "up"))

    metrics.set("ashore_shared_cache_up", 1.0)
    return ValkeyTier(connect(topology.redis.url), timeout_s=topology.redis.timeout_s, clock=clock, told=told)
