"""The guard lists of a process follow the state."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ashore.core.errors import AshoreError, InvalidSpec
from ashore.data.guard.lists import Guard
from ashore.data.guard.sql import GUARD_EPOCH, load_lists
from ashore.kit.metrics import Metric
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.state import Database

RETRY_S: Final = 1.0
"""Pause after the state could not be read."""

log = logging.getLogger("ashore.worker")


async def open_guard(context: Context) -> Opened:
    """Open it with the lists of the state; with none where there is no state.

    Raises:
        AshoreError: the state cannot be read.
    """
    guard, database = Guard(), context.database
    if database is None:
        return Opened(gives={Guard: guard})
    following = Following(guard, database)
    if context.watch is not None:
        context.watch.on_change(following.heed)
    await asyncio.to_thread(following.read)
    return Opened(gives={Guard: guard}, background={"follows guard lists": following.keep_reading})


class Following:
    """Keeps the lists of a process as the state has them. Created on its event loop."""

    def __init__(self, guard: Guard, database: Database) -> None:
        self._guard, self._database = guard, database
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()

    def heed(self, kind: str, value: int) -> None:
        """Take news of the watch, on its thread. Long lists take seconds to read, and a revoked key does not wait for
        them: they are read elsewhere."""
        if kind == GUARD_EPOCH:
            self._loop.call_soon_threadsafe(self._news.set)

    async def keep_reading(self) -> None:
        """Read the lists after each change, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await asyncio.to_thread(self.read)
            except AshoreError as fault:
                log.warning("cannot read the guard lists, so the old ones stay in force: %s", fault.in_one_line)
                await asyncio.sleep(RETRY_S)
                self._news.set()

    def read(self) -> None:
        """Read the lists once. Blocks.

        Raises:
            AshoreError: the state cannot be read.
        """
        with self._database.read() as connection:
            lists = load_lists(connection)
        try:
            self._guard.take(lists)
        except InvalidSpec as fault:  # which a retry would not mend
            log.error("cannot read the guard lists, so the old ones stay in force: %s (%s)", fault.message, fault.hint)


METRICS: Final = (
    Metric(
        "ashore_guard_words", "counter", "Words of guard lists in prompts and answers, by what the list does.",
        ("list", "do", "where"),
    ),
)  # fmt: skip
ROOM: Final = Room(name="guard", open=open_guard, metrics=METRICS)
