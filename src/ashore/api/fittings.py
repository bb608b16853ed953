"""What the request path of one worker stands on besides engine hosts: the state, its epochs, the cache."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ashore.cache import (
    CURATED_EPOCH,
    AnswerCache,
    CuratedAnswers,
    FixedEpochs,
    Pair,
    SharedTier,
    cache_secret,
    hidden_by,
    load_pairs,
)
from ashore.core import Behind, Clock, MemoryRecorder, Recorder, nothing_behind
from ashore.errors import InvalidSpec, MissingExtra
from ashore.metrics import Metrics
from ashore.privacy import POLICY_EPOCH, Privacy, PrivacyDesk, read_secret
from ashore.sealing import secrets_by_link
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
    privacy: PrivacyDesk

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        await self.cache.close()
        if self.watch is not None:
            await asyncio.to_thread(self.watch.close)
        if self.database is not None:
            self.database.close()


async def fit(
    topology: Topology,
    clock: Clock,
    metrics: Metrics,
    recorder: Recorder | None = None,
    *,
    behind: Behind = nothing_behind,
) -> Fittings:
    """Open the state and make the cache. Runs inside the worker's event loop.

    Raises:
        AshoreError: the state cannot be opened, or a Redis URL is malformed.
    """
    database = await asyncio.to_thread(_open, topology.state, clock)
    secret, watch = secrets.token_bytes(32), None
    if database is not None:
        watch = EpochWatch(database)
        secret = await asyncio.to_thread(_secret, database)
    cache = AnswerCache(
        topology.cache,
        secret=secret,
        epochs=watch or FixedEpochs(),
        clock=clock,
        shared=_shared(topology, clock, metrics),
        curated=CuratedAnswers(()),
        behind=behind,
    )
    privacy = await asyncio.to_thread(_privacy, topology, database, clock, recorder or MemoryRecorder(), behind)
    if watch is not None and database is not None:
        curated = _Curated(cache, database, asyncio.get_running_loop())
        watch.on_change(partial(_changed, cache, curated))
        watch.on_change(partial(_policy_changed, privacy))
        await asyncio.to_thread(watch.start)
        # behind the lines above, so that no change falls between them
        await asyncio.wrap_future(await asyncio.to_thread(curated.read))
        await asyncio.to_thread(privacy.refresh)
    return Fittings(database=database, watch=watch, cache=cache, privacy=privacy)


class _Curated:
    """The imported pairs, on their way from the state to the cache of a loop. What is read last comes last."""

    def __init__(self, cache: AnswerCache, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self._cache = cache
        self._database = database
        self._reading = threading.Lock()

    def read(self) -> Future[None]:
        """Read them, from any thread but the loop's; what is returned is done once the cache has them."""
        with self._reading:
            return asyncio.run_coroutine_threadsafe(self._cache.take_pairs(load_curated(self._database)), self.loop)


def _changed(cache: AnswerCache, curated: _Curated, kind: str, value: int) -> None:
    """Runs on the thread of the watch."""
    if kind == CURATED_EPOCH:
        curated.read()
    if hidden_by(kind) is not None:
        asyncio.run_coroutine_threadsafe(cache.let_go(kind), curated.loop)


def _privacy(
    topology: Topology, database: Database | None, clock: Clock, recorder: Recorder, behind: Behind
) -> PrivacyDesk:
    secret = secrets.token_bytes(32) if database is None else read_secret(database)
    privacy = Privacy(topology.privacy, secret=secret)
    desk = PrivacyDesk(privacy, topology.privacy, database, clock=clock, recorder=recorder, behind=behind)
    desk.refresh()
    return desk


def _policy_changed(desk: PrivacyDesk, kind: str, value: int) -> None:
    """Runs on the thread of the watch."""
    if kind != POLICY_EPOCH:
        return
    try:
        desk.refresh()
    except (InvalidSpec, MissingExtra) as fault:  # which another try would not mend
        log.error("the privacy policy stays as it was: %s (%s)", fault.message, fault.hint)


def _open(link: StateLink, clock: Clock) -> Database | None:
    if not link.url and not link.path:
        return None
    return open_state(
        link.url,
        default=Path(link.path),
        snapshots=Path(link.snapshots),
        clock=clock,
        say=log.info,
        secrets=secrets_by_link(Path(link.secrets_key)),
        create=False,
    )


def _secret(database: Database) -> bytes:
    with database.write() as connection:
        return cache_secret(connection)


def load_curated(database: Database) -> tuple[Pair, ...]:
    """Return the imported pairs."""
    with database.read() as connection:
        return load_pairs(connection)


def _shared(topology: Topology, clock: Clock, metrics: Metrics) -> SharedTier | None:
    if not topology.redis.url:
        return None
    from ashore.cache.valkey import ValkeyTier, connect

    def told(state: str) -> None:
        metrics.set("ashore_shared_cache_up", float(state == "up"))

    metrics.set("ashore_shared_cache_up", 1.0)
    return ValkeyTier(connect(topology.redis.url), timeout_s=topology.redis.timeout_s, clock=clock, told=told)
