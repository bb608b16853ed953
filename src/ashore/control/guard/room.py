"""The desk of the guard lists in the control process."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.control.guard.calls import CALLS, GuardDesk
from ashore.data.guard import Guard
from ashore.data.guard import room as data
from ashore.kit.rooms import Context, Opened


async def open_room(context: Context) -> Opened:
    """Open the room; nothing without a state."""
    if context.database is None:
        return Opened()
    guard = context.need(Guard)
    return Opened(
        desk=GuardDesk(guard=guard, database=context.database, clock=context.clock, recorder=context.recorder)
    )


ROOM: Final = replace(data.ROOM, calls=CALLS, acts=("guard:put", "guard:remove"), administer=open_room)
