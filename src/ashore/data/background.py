"""Background tasks of a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ashore.core.errors import AshoreError

AGAIN_S: Final = 5.0
"""Delay before a failed task is restarted."""

log = logging.getLogger("ashore.worker")


async def take_turns(
    trouble: str, turn: Callable[[], Awaitable[object]], *, every_s: float, level: int = logging.WARNING
) -> None:
    """Take turns with a pause of `every_s` until cancelled. A fault is logged after `trouble`, once while it lasts."""
    before = ""
    while True:
        try:
            await turn()
            before = ""
        except AshoreError as fault:
            if fault.message != before:
                log.log(level, "%s: %s", trouble, fault.in_one_line)
            before = fault.message
        await asyncio.sleep(every_s)


class Background:
    """Tasks that run until they are stopped. One that fails is logged and restarted.

    Without a restart, the first unforeseen fault of, say, the task that judges candidates would end it silently, while
    requests are answered as usual.
    """

    def __init__(self, *, again_s: float = AGAIN_S) -> None:
        self._again_s = again_s
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Start `work`, which ends only when it is cancelled. `name` is its name in the log."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._again_and_again(name, work), name=name))

    async def _again_and_again(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("%s failed; restarting it in %g s", name, self._again_s)
            await asyncio.sleep(self._again_s)

    async def stop(self) -> None:
        """Cancel every task; returns when each has ended. May be called twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
