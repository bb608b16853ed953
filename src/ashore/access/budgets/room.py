"""The budgets of an API worker, in the ledger that the workers of a machine share."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

from ashore.access.budgets.calls import CALLS, BudgetOffice
from ashore.access.budgets.opening import open_budgets
from ashore.access.budgets.service import LedgerBudgets
from ashore.access.budgets.usage import Price
from ashore.access.ports import Authority
from ashore.access.section import AccessSection
from ashore.core import Names
from ashore.rooms import Context, Opened, Room


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
    desk = BudgetOffice(
        authority=opened.authority,
        rights=context.need(Authority),
        recorder=context.recorder,
        clock=context.clock,
        prices=prices_of(section),
        names=context.need(Names),
        reread=partial(asyncio.to_thread, opened.reread),
        alone=context.alone,
    )
    close = partial(asyncio.to_thread, opened.close)
    return Opened(desk=desk, gives={LedgerBudgets: opened.budgets}, close=close)


def prices_of(section: AccessSection) -> dict[str, Price]:
    """Return the enterprise's internal token prices, by alias."""
    return {
        alias: Price(
            per_million_prompt_tokens=Decimal(price.per_million_prompt_tokens),
            per_million_completion_tokens=Decimal(price.per_million_completion_tokens),
            currency=price.currency,
        )
        for alias, price in section.prices.items()
    }


ROOM: Final = Room(name="budgets", calls=CALLS, acts=("budget:refuse",), open=open_room)
