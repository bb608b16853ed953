"""The budgets of an API worker, in the ledger that the workers of a machine share."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from ashore.data.authority.budgets.opening import open_budgets
from ashore.data.authority.budgets.service import LedgerBudgets
from ashore.data.authority.section import AccessSection
from ashore.kit.rooms import Context, Opened, Room


async def open_room(context: Context) -> Opened:
    """Open them; nothing without a state or a ledger."""
    folder: str = context.told("budgets")
    section: AccessSection = context.told("access")
    database = context.database
    if not folder or database is None:
        return Opened()
    opened = await asyncio.to_thread(
        partial(
            open_budgets,
            Path(folder),
            database,
            context.watch,
            context.clock,
            context.recorder,
            charge_hits=section.charge_hits,
            behind=context.behind,
        )
    )
    close = partial(asyncio.to_thread, opened.close)
    return Opened(gives={LedgerBudgets: opened.budgets}, close=close)


ROOM: Final = Room(name="budgets", serve=open_room)
