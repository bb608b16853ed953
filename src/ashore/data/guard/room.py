"""The guard lists of a process follow the state."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.data.guard.lists import Guard
from ashore.data.guard.sql import GUARD_EPOCH, load_lists
from ashore.kit.metrics import Metric
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.state import Database, Following

log = logging.getLogger("ashore.worker")


async def open_guard(context: Context) -> Opened:
    """Open it with the lists of the state; with none where there is no state.

    Raises:
        AshoreError: the state cannot be read.
    """
    guard, database = Guard(), context.database
    if database is None:
        return Opened(gives={Guard: guard})
    read = partial(read_lists, guard, database)
    following = Following(GUARD_EPOCH, read, "the guard lists")
    if context.watch is not None:
        context.watch.on_change(following.heed)
    await asyncio.to_thread(read)
    return Opened(gives={Guard: guard}, background={"follows guard lists": following.keep_reading})


def read_lists(guard: Guard, database: Database) -> None:
    """Read the lists once. Blocks.

    Raises:
        AshoreError: the state cannot be read.
    """
    with database.read() as connection:
        lists = load_lists(connection)
    try:
        guard.take(lists)
    except InvalidSpec as fault:  # which a retry would not mend
        log.error("cannot read the guard lists, so the old ones stay in force: %s (%s)", fault.message, fault.hint)


METRICS: Final = (
    Metric(
        "ashore_guard_words", "counter", "Words of guard lists in prompts and answers, by what the list does.",
        ("list", "do", "where"),
    ),
)  # fmt: skip
ROOM: Final = Room(name="guard", open=open_guard, metrics=METRICS)
