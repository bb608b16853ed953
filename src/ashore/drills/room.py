"""Drills, as an API worker sees them: the consent of a second officer. A drill itself is run from the command line."""

from __future__ import annotations

from typing import Final

from ashore.drills.calls import CALLS, DrillDesk
from ashore.drills.section import DrillsSection
from ashore.rooms import Context, Opened, Room


async def open_room(context: Context) -> Opened:
    """Open what officers ask; nothing without a state."""
    if context.database is None:
        return Opened()
    desk = DrillDesk(rights=context.rights, recorder=context.recorder, database=context.database, clock=context.clock)
    return Opened(desk=desk)


ROOM: Final = Room(name="drill", calls=CALLS, section=DrillsSection, open=open_room)
