"""Rereads the topology when the supervisor has written a new one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ashore.core.errors import AshoreError, MissingExtra, UserError
from ashore.data.path import Topology, read_topology

AGAIN_S: Final = 5.0
"""Until one that could not be taken is tried again: the supervisor may not write another one for days."""

log = logging.getLogger("ashore.worker")


async def take_each(parts: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Pass a topology to every part of a worker; one part's failure does not keep it from the others.

    Raises:
        AshoreError: a part failed; a retryable fault takes precedence.
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
    """Return whether the topology itself is invalid, so that only a new one helps."""
    return isinstance(fault, UserError | MissingExtra)


async def keep_rereading(
    told: asyncio.Event, path: Path, take: Callable[[Topology], Awaitable[None]], *, again_s: float = AGAIN_S
) -> None:
    """Pass the content of `path` to `take` whenever `told` is set. Ends when it is cancelled.

    An invalid topology is logged, and the next one awaited. A fault of this machine, such as a locked or unreachable
    state, is retried: a worker that missed a topology would not know the hosts in it.
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
        except Exception:  # a bug: the caller restarts this task
            told.set()
            raise
