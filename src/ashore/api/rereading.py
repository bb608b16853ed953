"""Rereads the topology when the supervisor has written a new one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ashore.errors import AshoreError, MissingExtra, UserError
from ashore.serving import Topology, read_topology

AGAIN_S: Final = 5.0
"""Until one that could not be taken is tried again: the supervisor may not write another one for days."""

log = logging.getLogger("ashore.worker")


async def take_each(parts: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Have every part of a worker take a topology: one that cannot keeps none of the others from it.

    Raises:
        AshoreError: a part could not; one that another try may help where there is such a fault.
    """
    faults: list[AshoreError] = []
    for part in parts:
        try:
            await part()
        except AshoreError as fault:
            faults.append(fault)
    if faults:
        raise min(faults, key=_is_final)


def _is_final(fault: AshoreError) -> bool:
    """Return whether a topology is wrong itself, so that only another one helps."""
    return isinstance(fault, UserError | MissingExtra)


async def keep_rereading(
    told: asyncio.Event, path: Path, take: Callable[[Topology], Awaitable[None]], *, again_s: float = AGAIN_S
) -> None:
    """Give what is in `path` to `take` whenever `told` is set. Ends when it is cancelled.

    What is wrong with the topology is told, and waits for another one. What is wrong with this machine, a state that is
    locked or away among others, is tried again: a worker that missed a topology would not know the hosts in it.
    """
    while True:
        await told.wait()
        told.clear()
        try:
            topology = read_topology(path)
        except AshoreError as fault:
            log.error("kept the old topology: %s (%s)", fault.message, fault.hint)
            continue
        try:
            await take(topology)
            log.info("loaded the new topology")
        except AshoreError as fault:
            log.error("the new topology was not loaded, or only in part: %s (%s)", fault.message, fault.hint)
            if not _is_final(fault):
                with suppress(TimeoutError):  # a newer one may come sooner
                    await asyncio.wait_for(told.wait(), again_s)
                told.set()
        except Exception:  # a bug: whoever keeps this going begins again, and with it
            told.set()
            raise
