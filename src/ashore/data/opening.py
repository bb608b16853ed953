"""Opens the state for the rooms of a process: an API worker, or the control process."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
from functools import partial
from pathlib import Path

from ashore.data.path import Topology
from ashore.kit.rooms import Rooms
from ashore.kit.sealing import secrets_by_link
from ashore.kit.state import Database, EpochWatch, open_state

log = logging.getLogger("ashore.worker")

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
"""From glibc's malloc.h."""


async def open_the_state(topology: Topology, opened: Rooms) -> None:
    """Open the state for the rooms, with its watcher; empty if the topology names none.

    Raises:
        AshoreError: the state cannot be opened, or a room that is open already rejects it.
    """
    link = topology.state
    if link.url or link.path:
        file, snapshots, clock = Path(link.path), Path(link.snapshots), opened.context.clock
        secrets = secrets_by_link(Path(link.secrets_key))
        work = partial(open_state, link.url, default=file, snapshots=snapshots, clock=clock, say=log.info)
        database = await asyncio.to_thread(work, secrets=secrets, create=False)
        watch = await asyncio.to_thread(EpochWatch(database).start)
        opened.before_closing(partial(asyncio.to_thread, database.close))
        opened.before_closing(partial(asyncio.to_thread, watch.close))
        opened.give({Database: database, EpochWatch: watch})
    await opened.go_over_state()


def one_heap() -> None:
    """Limit all threads to two heaps. With glibc's eight per core, memory freed by one thread is seldom reused by
    another.

    Blocks above 1 MiB are mapped separately, so long bodies return to the system when freed. By default glibc keeps
    blocks of up to 32 MiB in a heap once one of that size was freed.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and needs none
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 2)
            mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def opened_for_good() -> None:
    """Call once everything is open: what is there now is never garbage, and memory that is free goes to the system."""
    gc.collect()
    gc.freeze()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def trusted_proxies(topology: Topology) -> int:
    """Return how many proxies in front of the edge are believed."""
    return 0 if topology.edge is None else topology.edge.trusted_proxies
