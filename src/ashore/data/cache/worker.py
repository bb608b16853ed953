"""Opens the cache of an API worker, with its connection to the state."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from ashore.data.cache.curated import CuratedAnswers
from ashore.data.cache.ports import FixedEpochs, SharedTier
from ashore.data.cache.rules import ANY_PURGE_EPOCH, CURATED_EPOCH, hidden_by
from ashore.data.cache.section import RedisSection
from ashore.data.cache.service import AnswerCache
from ashore.data.cache.sql import cache_secret, load_pairs
from ashore.data.engines import sweep_prefixes
from ashore.kit.metrics import Metrics
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.settings import Home
from ashore.kit.state import Database, Following

OTHERS_KNOW_S: Final = 1.0
"""After a purge, when no worker sends orders that do not know of it any more."""


async def open_cache(context: Context) -> Opened:
    """Open the cache. Runs inside the worker's event loop.

    Raises:
        AshoreError: the state cannot be read, or a Redis URL is malformed.
    """
    database, watch = context.database, context.watch
    background: dict[str, Callable[[], Awaitable[None]]] = {}
    cache = AnswerCache(
        context.told("cache"),
        secret=secrets.token_bytes(32) if database is None else await asyncio.to_thread(_secret, database),
        epochs=watch or FixedEpochs(),
        clock=context.clock,
        shared=_shared(context),
        curated=CuratedAnswers(()),
        behind=context.behind,
    )
    if watch is not None and database is not None:
        loop = asyncio.get_running_loop()
        read = partial(_read_pairs, cache, database, loop)
        following = Following(CURATED_EPOCH, read, "the imported pairs")
        watch.on_change(following.heed)
        watch.on_change(partial(_changed, cache, loop))
        background = {"follows imported pairs": following.keep_reading}
        if home := context.told("home"):
            prefixes = Home(root=Path(home)).prefixes
            watch.on_change(partial(_sweep_after_purge, prefixes, cache, loop))
            await asyncio.to_thread(sweep_prefixes, prefixes, cache.purges_of)
        # after the line above, so that no change falls between them
        await asyncio.to_thread(read)
    return Opened(gives={AnswerCache: cache}, close=cache.close, background=background)


def _read_pairs(cache: AnswerCache, database: Database, loop: asyncio.AbstractEventLoop) -> None:
    """Pass the imported pairs from the state to the cache on its loop, and wait until it has them."""
    with database.read() as connection:
        pairs = load_pairs(connection)
    asyncio.run_coroutine_threadsafe(cache.take_pairs(pairs), loop).result()


def _changed(cache: AnswerCache, loop: asyncio.AbstractEventLoop, kind: str, value: int) -> None:
    """Runs on the thread of the watch."""
    if hidden_by(kind) is not None:
        asyncio.run_coroutine_threadsafe(cache.let_go(kind), loop)


def _sweep_after_purge(
    prefixes: Path, cache: AnswerCache, loop: asyncio.AbstractEventLoop, kind: str, value: int
) -> None:
    """Runs on the thread of the watch. Sweeps twice: a worker that did not know yet may send an order between."""
    if kind == ANY_PURGE_EPOCH:
        sweep_prefixes(prefixes, cache.purges_of)
        again = partial(loop.run_in_executor, None, sweep_prefixes, prefixes, cache.purges_of)
        loop.call_soon_threadsafe(loop.call_later, OTHERS_KNOW_S, again)


def _secret(database: Database) -> bytes:
    with database.write() as connection:
        return cache_secret(connection)


def _shared(context: Context) -> SharedTier | None:
    redis: RedisSection = context.told("redis")
    if not redis.url:
        context.metrics.drop("ashore_shared_cache_up")  # 0 would report it as down
        return None
    from ashore.data.cache.valkey import ValkeyTier, connect

    metrics: Metrics = context.metrics

    def told(state: str) -> None:
        metrics.set("ashore_shared_cache_up", float(state == "up"))

    metrics.set("ashore_shared_cache_up", 1.0)
    return ValkeyTier(connect(redis.url), timeout_s=redis.timeout_s, clock=context.clock, told=told)


ROOM: Final = Room(name="cache", serve=open_cache)
