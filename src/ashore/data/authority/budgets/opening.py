"""Opens the budgets of one process: the machine's ledger, the rules, and the reporter."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ashore.core.behind import Behind, nothing_behind
from ashore.core.clock import Clock
from ashore.data.authority.budgets.leases import LEASE_S, WANT_EPOCH, SqlLeases
from ashore.data.authority.budgets.ledger import MappedLedger
from ashore.data.authority.budgets.reporter import Pulse, Reporter
from ashore.data.authority.budgets.service import LedgerBudgets
from ashore.data.authority.budgets.sql import BUDGETS_EPOCH, SqlAuthority
from ashore.kit.recorder import Recorder
from ashore.kit.state import Database, EpochWatch, is_postgres

if TYPE_CHECKING:
    from ashore.data.authority.budgets.lender import MachineLender


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBudgets:
    """The budgets of one process, over the state."""

    budgets: LedgerBudgets
    authority: SqlAuthority
    ledger: MappedLedger
    reporter: Reporter
    lender: MachineLender | None
    """Where several machines share the windows."""
    reread: Callable[[], None]
    """Takes the rules that are in the state now; for any thread."""

    def close(self) -> None:
        """Release reservations, report the rest, and leave. May be called twice."""
        self.ledger.close()
        self.reporter.close()
        if self.lender is not None:
            self.lender.close()


def open_budgets(
    folder: Path,
    database: Database,
    watch: EpochWatch | None,
    clock: Clock,
    recorder: Recorder,
    *,
    charge_hits: bool,
    behind: Behind = nothing_behind,
) -> OpenBudgets:
    """Open them; new rules are loaded when their epoch changes.

    Raises:
        AshoreError: the ledger cannot be made, or the state cannot be read.
    """
    folder = folder / hashlib.sha256(database.place.encode()).hexdigest()[:12]  # another state is another authority
    with database.read() as connection:
        shared = is_postgres(connection)
    authority = SqlAuthority(database)
    leases = SqlLeases(database)

    earlier = (lambda now_ms: ()) if shared else authority.earlier
    ledger = MappedLedger(folder, clock, earlier=earlier, shared=shared)

    def hand() -> MappedLedger:
        return MappedLedger(folder, clock, takes_row=False, shared=shared, owner=ledger.owner)

    lender: MachineLender | None = None
    if shared:
        from ashore.data.authority.budgets.lender import MachineLender

        lender = MachineLender(folder, hand, leases)
    pulse = Pulse(leases, lease_s=LEASE_S) if shared else None
    try:
        budgets = LedgerBudgets(ledger, recorder, hits_cost_tokens=charge_hits, lender=lender, behind=behind)

        reading = threading.Lock()

        def take() -> None:
            with reading:  # the last read wins
                budgets.take(authority.rules())

        def changed(kind: str, value: int) -> None:
            if kind == BUDGETS_EPOCH:
                take()
                if lender is not None:  # granted under another cap
                    lender.give_back_soon(everything=True)
            elif kind == WANT_EPOCH and lender is not None:
                lender.give_back_soon()

        if watch is not None:
            watch.on_change(changed)
        take()  # after the line above, so that no change falls between them
        if pulse is not None:
            pulse.beat(ledger, now=True)
        reporter = Reporter(folder, hand, authority, pulse=pulse)
        reporter.start()
    except BaseException:
        ledger.close()
        if lender is not None:
            lender.close()
        raise
    return OpenBudgets(
        budgets=budgets, authority=authority, ledger=ledger, reporter=reporter, lender=lender, reread=take
    )
