"""The desk of tools of other servers in the control process."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.control.mcp.calls import CALLS, McpDesk
from ashore.data.mcp import McpSection
from ashore.data.mcp import room as data
from ashore.kit.rooms import Context, Opened


async def open_room(context: Context) -> Opened:
    """Open the room; nothing without a state."""
    if context.database is None:
        return Opened()
    desk = McpDesk(
        database=context.database, clock=context.clock, recorder=context.recorder,
        section=context.section("mcp", McpSection), allow=context.told("egress").with_own,
    )  # fmt: skip

    async def reload(context: Context) -> None:
        desk.section, desk.allow = context.section("mcp", McpSection), context.told("egress").with_own

    return Opened(desk=desk, reload=(reload,))


ROOM: Final = replace(
    data.ROOM, calls=CALLS, acts=("mcp:change", "mcp:withdraw"), section=McpSection, administer=open_room
)
