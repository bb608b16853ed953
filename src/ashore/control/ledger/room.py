"""The privacy ledger of the control process; nothing without a state."""

from __future__ import annotations

from typing import Final

from ashore.control.ledger.calls import CALLS, LedgerDesk
from ashore.control.ledger.section import StatisticsSection
from ashore.control.ledger.service import Ledger
from ashore.kit.consents import Consents
from ashore.kit.recorder import ForgetsAll, Recollection
from ashore.kit.rooms import Context, Opened, Room


async def open_ledger(context: Context) -> Opened:
    """Open the privacy ledger of this worker."""
    database = context.database
    if database is None:
        return Opened()
    ledger = Ledger(
        database,
        clock=context.clock,
        recorder=context.recorder,
        remembers=context.find(Recollection) or ForgetsAll(),
    )
    section = context.section("statistics", StatisticsSection)
    desk = LedgerDesk(
        ledger=ledger,
        database=database,
        rights=context.rights,
        datasets=section.datasets,
        recorder=context.recorder,
        consents=context.find(Consents),
        alone_up_to=section.second_officer_above,
    )

    async def reload(context: Context) -> None:
        section = context.section("statistics", StatisticsSection)
        desk.datasets, desk.alone_up_to = section.datasets, section.second_officer_above

    return Opened(desk=desk, gives={Ledger: ledger}, reload=(reload,))


ROOM: Final = Room(name="privacy budget", calls=CALLS, section=StatisticsSection, administer=open_ledger)
