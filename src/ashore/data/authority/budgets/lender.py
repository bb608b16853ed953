"""Shares of a window for each machine, where several machines have one authority.

A machine may use what the authority granted it, and asks for more when it runs short: a block, so that it seldom asks.
When other machines hold the rest, it requests it; they return their unused part and report what they use. No request is
refused before all of them have answered: one round, some milliseconds if they are healthy. A grant is used only while
the machine's lease runs; a machine silent for longer counts as gone, with its last report.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from ashore.core.errors import AshoreError, NotReady
from ashore.data.authority.budgets.leases import SqlLeases
from ashore.data.authority.budgets.ledger import MappedLedger
from ashore.data.authority.budgets.ports import Line, Short
from ashore.kit.processes.lock import locked

ROUND_S: Final = 0.05
"""The others are asked again after so long; and the longest wait for them, while one is known to be silent."""
PATIENCE_S: Final = 1.0
"""Longest wait for other machines' answers about one count."""
LOOK_S: Final = 0.004
LOOK_AT_MOST_S: Final = 0.02
"""First and longest pause between two checks for returned shares."""
GETTERS: Final = 4
"""Threads that lease; another one returns shares, so that requests never wait for each other."""

log = logging.getLogger("ashore.budgets")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Round:
    """One request to the other machines about one count."""

    asked_ms: int
    """By the authority's time."""
    give_up_at_s: float
    ask_again_at_s: float
    look_s: float


class MachineLender:
    """Gets shares for one process of a machine, and returns them for all of its processes. Works on a thread of its
    own."""

    def __init__(self, folder: Path, open_ledger: Callable[[], MappedLedger], leases: SqlLeases) -> None:
        """Create it.

        Args:
            folder: Directory of the ledger, for the machine's lock.
            open_ledger: Opens another handle on the ledger, for the thread.
            leases: Source of shares.
        """
        self._path = folder / "lender"
        self._open_ledger = open_ledger
        self._leases = leases
        self._hands = threading.local()
        self._opened: list[MappedLedger] = []
        self._impatient_until = 0.0
        self._due = False
        """Whether a check for other machines' requests is scheduled."""
        self._getting = ThreadPoolExecutor(GETTERS, thread_name_prefix="budget leases")
        self._giving = ThreadPoolExecutor(1, thread_name_prefix="budget shares")

    async def fit(self, attempt: Callable[[MappedLedger], _T], undo: Callable[[_T], None]) -> _T:
        """Return the result of an attempt, after leasing more of any count that is short.

        Args:
            attempt: Reserves or charges in the given ledger; called on a thread, again after each lease.
            undo: Undoes the attempt's result if its caller is gone.

        Raises:
            Short: a count has too little left, here and everywhere.
            NotReady: the authority cannot be asked, or a machine that has a share does not answer.
        """
        work = asyncio.get_running_loop().run_in_executor(self._getting, self.fit_now, attempt)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(lambda done: undo(done.result()) if done.exception() is None else None)
            raise
        except NotReady:
            raise
        except AshoreError as fault:
            raise NotReady(
                f"shared budgets cannot be checked, because the state database does not respond: {fault.message}",
                hint="retry in a moment; if it persists, the operator checks the database",
                retry_after_s=1,
            ) from fault

    def fit_now(self, attempt: Callable[[MappedLedger], _T]) -> _T:
        """Like `fit`, on the thread of the caller.

        Raises:
            Short: a count has too little left, here and everywhere.
            AshoreError: the authority cannot be asked, or a machine that has a share does not answer.
        """
        rounds: dict[str, _Round] = {}  # by rule
        ledger = self._hand()
        while True:
            with locked(self._path):  # no share is returned between a lease and its use
                while True:
                    try:
                        return attempt(ledger)
                    except Short as short:
                        if not short.leased:
                            raise
                        line, wanted, last = short.line, short.wanted, short
                    if ledger.has_lapsed():
                        raise NotReady(
                            "this machine's lease on the shared budgets has expired",
                            hint="retry in a moment; the lease is renewed as soon as the database responds",
                            retry_after_s=1,
                        )
                    granted, used = ledger.share(line)
                    round_ = rounds.get(line.rule_id)
                    lease = self._leases.lease(
                        ledger.source, line, granted=granted, wanted=used + wanted - granted,
                        asked_ms=round_.asked_ms if round_ else 0,
                    )  # fmt: skip
                    if lease.granted == granted:
                        break
                    ledger.grant(line, lease.granted)
            if not lease.others:
                raise last
            rounds[line.rule_id] = self._wait_a_little(ledger.source, line, round_)

    def _wait_a_little(self, source: str, line: Line, round_: _Round | None) -> _Round:
        """Ask the others, or wait for their answers; return the next state."""
        now_s = time.monotonic()
        if round_ is None:
            patience_s = ROUND_S if now_s < self._impatient_until else PATIENCE_S
            round_ = _Round(self._leases.want(source, line), now_s + patience_s, now_s + ROUND_S, LOOK_S)
        elif now_s >= round_.give_up_at_s:
            self._impatient_until = now_s + PATIENCE_S
            raise NotReady(
                "another machine that shares this budget has not reported how much of its share it uses",
                hint="retry in a moment; a machine that is down is dropped within 10 s",
                retry_after_s=1,
            )
        elif now_s >= round_.ask_again_at_s:  # a machine that leased more after its answer must answer again
            self._leases.want(source, line)
            round_ = replace(round_, ask_again_at_s=now_s + ROUND_S)
        time.sleep(round_.look_s)
        return replace(round_, look_s=min(1.5 * round_.look_s, LOOK_AT_MOST_S))

    def give_back_soon(self, *, everything: bool = False) -> None:
        """Return shares soon: those that other machines want, or all unused ones. Callable from any thread."""
        if self._due and not everything:
            return
        self._due = self._due or not everything
        try:
            self._giving.submit(self._give_back_or_say, everything)
        except RuntimeError:
            return  # closed meanwhile

    def give_back(self, *, everything: bool = False) -> int:
        """Return unused shares, and report what is used; return the number of counts.

        Raises:
            AshoreError: the authority cannot be reached: it counts too much for this machine for a while.
        """
        with locked(self._path):
            ledger = self._hand()
            heard_ms, lines = (0, ledger.shares()) if everything else self._leases.wanted(ledger.source)
            if lines:
                ledger.reclaim()
            given = []
            for line in lines:
                ledger.shrink(line)
                given.append((line, ledger.share(line)[0]))
            self._leases.give_back(ledger.source, given, heard_ms=heard_ms)
            return len(given)

    def close(self) -> None:
        """Return unused shares, and stop. May be called twice."""
        self.give_back_soon(everything=True)
        self._getting.shutdown(wait=True)
        self._giving.shutdown(wait=True)
        while self._opened:
            self._opened.pop().close()

    def _give_back_or_say(self, everything: bool) -> None:
        if not everything:
            self._due = False  # before reading usage: later requests are seen by the next round
        try:
            self.give_back(everything=everything)
        except AshoreError as fault:
            log.warning("cannot return this machine's shares of the budgets: %s", fault.message)

    def _hand(self) -> MappedLedger:
        """Return this thread's own handle on the ledger."""
        ledger: MappedLedger | None = getattr(self._hands, "ledger", None)
        if ledger is None:
            ledger = self._hands.ledger = self._open_ledger()
            self._opened.append(ledger)
        return ledger
