"""The desk of chats in the control process."""

from __future__ import annotations

from typing import Final

from ashore.control.chats.calls import CALLS, ChatDesk
from ashore.data.jobs import JobDesk
from ashore.kit.rooms import Context, Opened, Room


async def open_room(context: Context) -> Opened:
    """Open the room; nothing without a state."""
    if context.database is None:
        return Opened()
    desk = ChatDesk(
        rights=context.rights,
        recorder=context.recorder,
        clock=context.clock,
        database=context.database,
        conversations=context.need(JobDesk).conversations,
    )
    return Opened(desk=desk)


ROOM: Final = Room(
    name="chats", calls=CALLS, acts=("assistant:put", "assistant:remove"), administer=open_room, stage="serving"
)
