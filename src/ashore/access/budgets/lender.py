"""Shares of a window for each machine, where several machines have one authority.

A machine may use what the authority granted it, and asks for more when it runs short: a block, so that it seldom asks.
When the rest is with other machines, it says what it wants; they give back what they do not use, within one round. A
grant is used only while the machine's lease runs; one that is silent for longer counts as gone, with what it last
reported.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from ashore.access.budgets.ledger import MappedLedger
from ashore.access.budgets.ports import Leases, Ledger, Short
from ashore.errors import AshoreError, NotReady

ROUND_S: Final = 0.05
"""Longest wait for what other machines give back of one count."""
LOOK_S: Final = 0.004
GETTERS: Final = 4
"""Threads that ask for more; what others want is given back by another one, so that nobody waits for who waits."""

log = logging.getLogger("ashore.budgets")
_T = TypeVar("_T")


class MachineLender:
    """Gets shares for one process of a machine, and gives back for all of them. Works on a thread of its own."""

    def __init__(self, folder: Path, open_ledger: Callable[[], MappedLedger], leases: Leases) -> None:
        """Make it.

        Args:
            folder: Of the ledger, for the lock of the machine.
            open_ledger: Opens another hand on the ledger, for the thread.
            leases: Where shares come from.
        """
        self._path = folder / "lender"
        self._open_ledger = open_ledger
        self._leases = leases
        self._hands = threading.local()
        self._opened: list[MappedLedger] = []
        self._getting = ThreadPoolExecutor(GETTERS, thread_name_prefix="budget leases")
        self._giving = ThreadPoolExecutor(1, thread_name_prefix="budget shares")

    async def fit(self, attempt: Callable[[Ledger], _T], undo: Callable[[_T], None]) -> _T:
        """Return what an attempt gives, with more of whatever it is short of.

        Args:
            attempt: Reserves or charges in the ledger that it gets; called on a thread, again after each lease.
            undo: Takes back what the attempt gave, when nobody waits for it any more.

        Raises:
            Short: a count has too little left, here and everywhere.
            NotReady: the authority cannot be asked.
        """
        work = asyncio.get_running_loop().run_in_executor(self._getting, self.fit_now, attempt)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(lambda done: undo(done.result()) if done.exception() is None else None)
            raise
        except AshoreError as fault:
            raise NotReady(
                f"budgets are shared between machines, and the state cannot be asked: {fault.message}",
                hint="send it again in a moment; the operator looks after the database",
                retry_after_s=1,
            ) from fault

    def fit_now(self, attempt: Callable[[Ledger], _T]) -> _T:
        """As `fit`, on the thread of the caller.

        Raises:
            Short: a count has too little left, here and everywhere.
            AshoreError: the authority cannot be asked.
        """
        give_up_at: dict[str, float] = {}  # by rule: each has a round of its own
        ledger = self._hand()
        while True:
            with self._machine():  # nothing is given back between a lease and its use
                while True:
                    try:
                        return attempt(ledger)
                    except Short as short:
                        if not short.leased:
                            raise
                        line, wanted, last = short.line, short.wanted, short
                    if ledger.has_lapsed():
                        raise NotReady(
                            "the lease of this machine on shared budgets has run out",
                            hint="send it again in a moment; it is renewed as soon as the database answers",
                            retry_after_s=1,
                        )
                    granted, used = ledger.share(line)
                    lease = self._leases.lease(ledger.source, line, granted=granted, wanted=used + wanted - granted)
                    if lease.granted == granted:
                        break
                    ledger.grant(line, lease.granted)
            if not lease.others or time.monotonic() >= give_up_at.get(line.rule_id, float("inf")):
                raise last
            if line.rule_id not in give_up_at:
                self._leases.want(ledger.source, line)
                give_up_at[line.rule_id] = time.monotonic() + ROUND_S
            time.sleep(LOOK_S)

    def give_back_soon(self, *, everything: bool = False) -> None:
        """Give back, soon, what other machines want, or all that is not used. Callable from any thread."""
        try:
            self._giving.submit(self._give_back_or_say, everything)
        except RuntimeError:
            return  # closed meanwhile

    def give_back(self, *, everything: bool = False) -> int:
        """Give back what this machine does not use; return of how many counts.

        Raises:
            AshoreError: the authority cannot be told: it counts more for this machine than this uses, for a while.
        """
        with self._machine():
            ledger = self._hand()
            lines = ledger.shares() if everything else self._leases.wanted(ledger.source)
            given = [(line, left) for line in lines if (left := ledger.shrink(line)) is not None]
            self._leases.give_back(ledger.source, given)
            return len(given)

    def close(self) -> None:
        """Give back what is not used, and stop. May be called twice."""
        self.give_back_soon(everything=True)
        self._getting.shutdown(wait=True)
        self._giving.shutdown(wait=True)
        while self._opened:
            self._opened.pop().close()

    def _give_back_or_say(self, everything: bool) -> None:
        try:
            self.give_back(everything=everything)
        except AshoreError as fault:
            log.warning("shares of budgets cannot be given back: %s", fault.message)

    def _hand(self) -> MappedLedger:
        """Return this thread's own hand on the ledger."""
        ledger: MappedLedger | None = getattr(self._hands, "ledger", None)
        if ledger is None:
            ledger = self._hands.ledger = self._open_ledger()
            self._opened.append(ledger)
        return ledger

    @contextmanager
    def _machine(self) -> Iterator[None]:
        """Hold the lock under which one process of this machine at a time changes shares."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
