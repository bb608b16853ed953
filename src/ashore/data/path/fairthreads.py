"""Thread pool with fair queues for long work of one request: masking and tokenising megabytes of text, grammars.

Separate from the threads of files, jobs and administration, so that none of those waits for a prompt. Each tenant has
its own queue with a limit of running work, and a lower limit per principal: heavy callers wait behind themselves only.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from ashore.core.clock import Clock
from ashore.core.errors import DeadlineExceeded
from ashore.core.wanted import WANT, Want
from ashore.data.authority import Principal

_T = TypeVar("_T")

THREADS: Final = 4
PER_TENANT: Final = 2
PER_PRINCIPAL: Final = 1
SWITCH_S: Final = 0.0005
"""How long work may hold the interpreter while the event loop wants it: a tenth of what Python allows. It is given back
once nothing is at work."""


class _Line:
    """Running and waiting work of one tenant."""

    __slots__ = ("at_work", "waiting")

    def __init__(self) -> None:
        self.at_work: Counter[str] = Counter()
        self.waiting: list[tuple[str, asyncio.Future[None]]] = []

    def has_place(self, who: str) -> bool:
        return self.at_work.total() < PER_TENANT and self.at_work[who] < PER_PRINCIPAL


class FairThreads:
    """Runs work of many tenants on few threads. Every call is made on one event loop."""

    def __init__(self, name: str, clock: Clock) -> None:
        """Create the pool; threads start with the first work.

        Args:
            name: Name of the threads.
            clock: Clock of the deadlines (monotonic).
        """
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._at_work = 0
        self._usual_switch_s = sys.getswitchinterval()

    @property
    def waiting(self) -> int:
        """Number of waiting work items."""
        return sum(len(line.waiting) for line in self._lines.values())

    @property
    def at_work(self) -> int:
        """Number of work items on threads, or about to start; abandoned ones count until they end."""
        return self._at_work

    async def run(self, principal: Principal, work: Callable[[], _T], *, deadline_at: float) -> _T:
        """Run `work` on a thread when the principal's turn has come, and return its result.

        If it is cancelled or past its deadline, it never starts; if it runs, `check_wanted` ends it. Its place is freed
        when it has ended, not before.

        Raises:
            DeadlineExceeded: the deadline passed.
        """
        left_s = deadline_at - self._clock.monotonic_s()
        alarm = asyncio.timeout(max(0.0, left_s))
        try:
            async with alarm:
                await self._turn(principal.tenant, principal.id)
                return await self._on_thread(principal, work)
        except TimeoutError as fault:
            if not alarm.expired():
                raise
            raise DeadlineExceeded(
                "the deadline passed before the prompt was read: long prompts of one principal are read one after "
                "the other",
                hint="send shorter prompts, fewer at once, or a later `x-ashore-deadline-ms`",
            ) from fault

    def close(self) -> None:
        """Start no more work. Running work is not awaited. May be called twice."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, tenant: str, who: str) -> None:
        """Wait for a place in the tenant's queue."""
        line = self._lines.setdefault(tenant, _Line())
        if line.has_place(who):
            line.at_work[who] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append((who, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the place was handed over in the same turn of the loop as the cancellation
                self._leave(tenant, who)
            raise

    async def _on_thread(self, principal: Principal, work: Callable[[], _T]) -> _T:
        loop, want = asyncio.get_running_loop(), Want()
        context = contextvars.copy_context()
        context.run(WANT.set, want)
        self._began()
        try:
            job = self._pool.submit(context.run, work)
        except RuntimeError:  # closed
            self._ended(principal)
            raise
        job.add_done_callback(partial(self._told, loop, principal))
        try:
            return await asyncio.wrap_future(job)
        finally:
            want.give_up()

    def _told(self, loop: asyncio.AbstractEventLoop, principal: Principal, job: Future[_T]) -> None:
        """Report, from any thread, that work has ended."""
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._ended, principal)

    def _began(self) -> None:
        self._at_work += 1
        if self._at_work == 1:
            self._usual_switch_s = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_S, self._usual_switch_s))

    def _ended(self, principal: Principal) -> None:
        self._at_work -= 1
        if not self._at_work:
            sys.setswitchinterval(self._usual_switch_s)
        self._leave(principal.tenant, principal.id)

    def _leave(self, tenant: str, left: str) -> None:
        """Free a place, and give it to the longest waiting work that may run."""
        line = self._lines[tenant]
        line.at_work[left] -= 1
        line.waiting = [(who, turn) for who, turn in line.waiting if not turn.done()]
        for who, turn in line.waiting:
            if line.has_place(who):
                line.at_work[who] += 1
                turn.set_result(None)
        line.at_work += Counter()  # drop tenants without work
        if not line.at_work:
            del self._lines[tenant]
