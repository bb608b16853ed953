"""Background work off the request path: copies for a shadow, which take turns and pause, and small chores."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.data.path.shadow import Copy
from ashore.kit.processes.idleness import Idleness

QUEUE: Final = 16
"""Copies that wait, and chores; more are dropped."""
AT_ONCE: Final = 4
"""Copies that run together: their steps read the weights once. One alone where processors are short."""
SHORT: Final = 0.25
"""Processors are short where less of them is idle."""
REST: Final = 64.0
"""While anybody is answered and processors are short, copies rest so many times as long as the last one took. The idle
class does not make a shadow free: beside live steps that leave no processor idle, each percent of the processors that
it used cost the slowest live answers two to three percent (benchmarks/reports/2026-11-27-release.md)."""
MOST_REST_S: Final = 60.0
FRESH_S: Final = 30.0
"""A live answer older than that is not compared."""
LOOK_EVERY_S: Final = 0.02
"""Interval of the check whether copies may begin."""

log = logging.getLogger("ashore.serving")

Chore = Callable[[], Awaitable[None]]


class Aside:
    """Background worker of two tasks, which end when there is nothing to do. Every call is made on one event loop."""

    def __init__(
        self,
        clock: Clock,
        *,
        compare: Callable[[Copy], Awaitable[None]],
        drop: Callable[[Copy], None],
        idle_part: Callable[[], float] | None = None,
    ) -> None:
        """Create the worker.

        Args:
            clock: For times.
            compare: Answers a copy and compares the answers.
            drop: Called with a copy whose live answer went stale before its turn.
            idle_part: Returns the idle share of the processors; None: measure this machine's.
        """
        self._clock = clock
        self._compare = compare
        self._drop = drop
        self._idle_part = idle_part or Idleness().part
        self._copies: deque[Copy] = deque()
        self._chores: deque[Chore] = deque()
        self._runners: dict[str, asyncio.Task[None]] = {}
        self._rests_until_s = 0.0

    @property
    def takes_copies(self) -> bool:
        """Whether there is room for another copy."""
        return len(self._copies) < QUEUE

    def copy(self, copy: Copy) -> None:
        """Queue a copy for comparison when resources are free."""
        self._copies.append(copy)
        self._start("shadow", self._run_copies)

    def do(self, chore: Chore) -> bool:
        """Queue a chore to run soon; return whether there was room."""
        if len(self._chores) >= QUEUE:
            return False
        self._chores.append(chore)
        self._start("chores", self._run_chores)
        return True

    async def close(self) -> None:
        """Drop all work. May be called twice."""
        for task in self._runners.values():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _start(self, name: str, run: Callable[[], Coroutine[None, None, None]]) -> None:
        task = self._runners.get(name)
        if task is None or task.done():
            self._runners[name] = asyncio.get_running_loop().create_task(run(), name=name)

    async def _run_chores(self) -> None:
        while self._chores:
            await _told(self._chores.popleft()())

    async def _run_copies(self) -> None:
        while self._copies:
            first = self._copies[0]
            if not await self._turn_comes(first):
                self._drop(self._copies.popleft())
                continue
            together = 1 if self._is_short(first) else min(AT_ONCE, len(self._copies))
            copies = [self._copies.popleft() for _ in range(together)]
            began_s = self._clock.monotonic_s()
            await asyncio.gather(*(_told(self._compare(copy)) for copy in copies))
            ended_s = self._clock.monotonic_s()
            self._rests_until_s = ended_s + min(MOST_REST_S, REST * (ended_s - began_s))

    async def _turn_comes(self, copy: Copy) -> bool:
        """Wait until no request waits and the pause between copies is over; return whether the live answer is still
        fresh."""
        gate = copy.trial.model.gate
        while True:
            now_s = self._clock.monotonic_s()
            if not gate.load_of_all.waiting and (now_s >= self._rests_until_s or not self._is_short(copy)):
                return True
            if now_s > copy.live.at_s + FRESH_S:
                return False
            await asyncio.sleep(LOOK_EVERY_S)

    def _is_short(self, copy: Copy) -> bool:
        """Return whether requests need the resources that a copy takes."""
        return copy.trial.model.gate.load_of_all.running > 0 and self._idle_part() < SHORT


async def _told(work: Awaitable[None]) -> None:
    """Run the work; a failure is logged, and no release is blamed."""
    try:
        await work
    except AshoreError as fault:
        log.info("answers were not compared: %s", fault.message)
