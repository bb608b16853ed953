"""The desk of budgets and usage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Final

from ashore.core.names import Names
from ashore.data.authority.budgets import worker as data
from ashore.data.authority.budgets.calls import CALLS, BudgetOffice
from ashore.data.authority.budgets.caps import Caps
from ashore.data.authority.budgets.sql import BUDGETS_EPOCH, SqlAuthority
from ashore.data.authority.budgets.usage import Price
from ashore.data.authority.ports import Authority
from ashore.data.authority.section import AccessSection
from ashore.kit.rooms import Context, Opened


async def administer_budgets(context: Context) -> Opened:
    """Open the desk, and the caps of what tenants store; nothing without a state or a ledger."""
    database = context.database
    if not context.told("budgets") or database is None:
        return Opened()
    authority = SqlAuthority(database)
    caps = Caps(authority)
    if context.watch is not None:
        context.watch.on_change(partial(_changed, caps.reread))
    await asyncio.to_thread(caps.reread)  # after the line above, so that no change falls between them
    desk = BudgetOffice(
        authority=authority,
        rights=context.need(Authority),
        recorder=context.recorder,
        clock=context.clock,
        prices=prices_of(context.told("access")),
        names=context.need(Names),
    )
    return Opened(desk=desk, gives={Caps: caps})


def _changed(reread: Callable[[], None], kind: str, value: int) -> None:
    """Runs on the thread of the watch."""
    if kind == BUDGETS_EPOCH:
        reread()


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


ROOM: Final = replace(data.ROOM, calls=CALLS, acts=("budget:refuse",), administer=administer_budgets)
