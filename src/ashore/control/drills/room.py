"""Drills in the control process: the list, reports, consent. Drills themselves run from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ashore.control.drills.calls import CALLS, DrillDesk, acts_of
from ashore.control.drills.section import DrillsSection
from ashore.kit.rooms import Context, Opened, Room


async def open_room(context: Context) -> Opened:
    """Open the room; nothing without a state."""
    home: str = context.told("home")
    if context.database is None or not home:
        return Opened()
    desk = DrillDesk(
        rights=context.rights,
        recorder=context.recorder,
        database=context.database,
        clock=context.clock,
        home=Path(home),
        acts=acts_of(Path(home)),
    )
    return Opened(desk=desk)


ROOM: Final = Room(
    name="drill", calls=CALLS, acts=("drill:report", "drill:run"), section=DrillsSection, administer=open_room
)
