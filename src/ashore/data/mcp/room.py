"""The gateway of an API worker; its approvals follow the state."""

from __future__ import annotations

import asyncio
from typing import Final

from ashore.data.audit import AuditLog
from ashore.data.authority import Authority
from ashore.data.authority.budgets import LedgerBudgets
from ashore.data.guard import Guard
from ashore.data.mcp.gateway import Gateway
from ashore.data.mcp.pins import MCP_EPOCH, load_pins
from ashore.data.mcp.section import McpSection
from ashore.data.path import CountingAuditor, Unlimited
from ashore.data.privacy import Privacy
from ashore.kit.metrics import Metric
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.state import Following


async def open_gateway(context: Context) -> Opened:
    """Open it; nothing without a state, where approvals are."""
    database = context.database
    if database is None:
        return Opened()
    gateway = Gateway(
        authority=context.need(Authority), privacy=context.need(Privacy), guard=context.need(Guard),
        metrics=context.metrics, recorder=context.recorder, budgets=context.find(LedgerBudgets) or Unlimited(),
        auditor=context.find(AuditLog) or CountingAuditor(),
    )  # fmt: skip

    def read() -> None:
        with database.read() as connection:
            gateway.take_pins(load_pins(connection))

    async def reload(context: Context) -> None:
        await gateway.take(context.section("mcp", McpSection), context.told("egress").with_own)

    following = Following(MCP_EPOCH, read, "the approved tools")
    if context.watch is not None:
        context.watch.on_change(following.heed)
    await asyncio.to_thread(read)
    await reload(context)
    return Opened(
        gives={Gateway: gateway}, reload=(reload,), close=gateway.close,
        background={"follows approved tools": following.keep_reading},
    )  # fmt: skip


METRICS: Final = (
    Metric("ashore_mcp_calls", "counter", "Calls of tools, by server and outcome.", ("server", "outcome")),
    Metric(
        "ashore_mcp_seconds", "histogram", "Time of a call of a tool, with its server.", ("server",),
        (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    ),
)  # fmt: skip
ROOM: Final = Room(name="mcp", serve=open_gateway, metrics=METRICS)
