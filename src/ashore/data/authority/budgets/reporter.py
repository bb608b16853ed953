"""Reports the counts of a machine's ledger to the authority, and settles what dead processes left.

Every process runs one on a thread; the holder of a lock works, the others stand by. Pending reports are in the ledger,
so memory stays bounded while the authority is away, and the next reporter loses nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ashore.core.errors import AshoreError
from ashore.data.authority.budgets import layout as at
from ashore.data.authority.budgets.leases import SqlLeases
from ashore.data.authority.budgets.ledger import MappedLedger
from ashore.data.authority.budgets.model import Usage
from ashore.data.authority.budgets.ports import CountRow
from ashore.data.authority.budgets.sql import SqlAuthority
from ashore.kit.copied import copied
from ashore.kit.processes.lock import try_lock

EVERY_S: Final = 0.25
"""Usage that a power cut of the whole machine can lose."""
STAND_BY_S: Final = 1.0
FORGET_EVERY_MS: Final = 3_600_000
FORGET_AFTER_MS: Final = 24 * 3_600_000
LAST_WAIT_S: Final = 2.0

BEAT_EVERY_S: Final = 1.0
SAFE_SHARE: Final = 0.9
"""Part of its lease that a machine uses: clocks do not run equally fast."""

log = logging.getLogger("ashore.budgets")


class Pulse:
    """Keeps the lease of a machine, during which its shares are its own."""

    def __init__(self, leases: SqlLeases, *, lease_s: float) -> None:
        self._leases = leases
        self._lease_s = lease_s
        self._next_at = 0.0

    def beat(self, ledger: MappedLedger, *, now: bool = False) -> None:
        """Renew the lease if it is due.

        Raises:
            AshoreError: the authority is away; grants may be used until the lease runs out.
        """
        began_s = time.monotonic()
        if began_s < self._next_at and not now:
            return
        if not self._leases.beat(ledger.source):  # it had run out: others may have got its unused share
            given = [(line, left) for line in ledger.shares() if (left := ledger.shrink(line)) is not None]
            self._leases.give_back(ledger.source, given)
        ledger.use_grants_for(self._lease_s * SAFE_SHARE, since_s=began_s)
        self._next_at = began_s + BEAT_EVERY_S


class Reporter:
    """One process's reporter. `start` and `close` from any thread."""

    def __init__(
        self,
        folder: Path,
        open_ledger: Callable[[], MappedLedger],
        authority: SqlAuthority,
        *,
        pulse: Pulse | None = None,
    ) -> None:
        """Create it.

        Args:
            folder: Directory of the ledger, for the lock.
            open_ledger: Opens another handle on the ledger, for the thread.
            authority: Takes the reports.
            pulse: Keeps this machine's lease, if several machines share the windows.
        """
        self._path = folder / "reporter"
        self._open_ledger = open_ledger
        self._authority = authority
        self._pulse = pulse
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported: dict[int, at.Cell] = {}
        self._failed = False
        self._forgot_ms = 0

    def start(self) -> None:
        """Start. To be called once."""
        self._thread = threading.Thread(target=self._run, name="budgets", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Report the rest, and stop. May be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        ledger = self._open_ledger()
        lock: int | None = None
        try:
            while not self._stop.is_set():
                if lock is None:
                    lock = self._try_lock()
                if lock is None:
                    self._stop.wait(STAND_BY_S)
                    continue
                self._report_or_say(ledger)
                self._stop.wait(EVERY_S)
            give_up_at = time.monotonic() + LAST_WAIT_S
            while lock is None and time.monotonic() < give_up_at:  # another one may be at its own last report
                lock = self._try_lock()
                if lock is None:
                    time.sleep(0.02)
            if lock is not None:
                self._report_or_say(ledger)
        finally:
            if lock is not None:
                os.close(lock)
            ledger.close()

    def _try_lock(self) -> int | None:
        """Return the reporter's lock; None while another process has it, or it cannot be opened."""
        try:
            return try_lock(self._path)
        except OSError as fault:  # a full disk, no descriptor left: unreported counts stay in the ledger
            if not self._failed:
                log.warning("cannot report budgets and usage yet: %s", fault)
            self._failed = True
            return None

    def _report_or_say(self, ledger: MappedLedger) -> None:
        try:
            self.report(ledger)
            self._failed = False
        except AshoreError as fault:
            if not self._failed:
                log.warning("cannot write budgets and usage: %s; the ledger keeps them until it can", fault)
            self._failed = True
        except Exception:  # the outermost loop of the thread: our bug is logged, and the next round retries
            log.exception("reporting budgets failed")

    def report(self, ledger: MappedLedger) -> None:
        """Settle what dead processes left, report changes since the last time, and free ended cells.

        Raises:
            AshoreError: the authority is away; the next call reports it all.
        """
        dead = ledger.reclaim()
        if dead:
            log.warning("settled the reserved tokens of %d processes that died", dead)
        now_ms = ledger.now_ms()
        found = ledger.numbers()
        changed = [(number, cell) for number, cell in found if self._reported.get(number) != cell]
        self._authority.report(
            ledger.source,
            [_count_row(cell) for _, cell in changed if cell.kind == at.BUDGET],
            [_usage_row(cell) for _, cell in changed if cell.kind == at.USAGE],
        )
        self._reported = dict(found)
        if self._pulse is not None:
            self._pulse.beat(ledger)
        ledger.free_cells(found, now_ms)
        if now_ms - self._forgot_ms > FORGET_EVERY_MS:
            self._authority.forget(now_ms - FORGET_AFTER_MS)
            self._forgot_ms = now_ms


def _count_row(cell: at.Cell) -> CountRow:
    rule_id, key, user, tenant, model = cell.parts
    return copied(CountRow, cell, rule_id=rule_id, subject=(key, user, tenant, model))


def _usage_row(cell: at.Cell) -> Usage:
    day, tenant, user, model = cell.parts
    requests, _, hits, prompt_tokens, completion_tokens, cached_tokens, refused = cell.numbers
    return Usage(
        day=day,
        tenant=tenant,
        user=user,
        model=model,
        requests=requests,
        hits=hits,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
        refused=refused,
    )
