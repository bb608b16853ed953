"""Directories in the control process: the calls, and the looks at what changed."""

from __future__ import annotations

import asyncio
from typing import Final

from ashore.control.directory.binding import DirectoryLogIn
from ashore.control.directory.calls import CALLS, DirectoryDesk
from ashore.control.directory.scheduled import DirectorySchedule
from ashore.control.directory.section import DirectoriesSection
from ashore.control.jobs.schedule import Schedule
from ashore.kit.rooms import Context, Opened, Room


async def open_directories(context: Context) -> Opened:
    """Open the room; nothing without a state."""
    schedule = context.find(Schedule)
    if context.database is None or schedule is None:
        return Opened()
    source = DirectorySchedule(context.database, context.recorder, context.clock, schedule.wake)
    desk = DirectoryDesk(database=context.database, clock=context.clock, rights=context.rights)
    schedule.add(source)

    async def take(context: Context) -> None:
        desk.section = context.section("directory", DirectoriesSection)
        desk.allow = context.told("egress").with_own
        await asyncio.to_thread(source.take, desk.section, desk.allow)

    await take(context)
    gives = {DirectoryLogIn: DirectoryLogIn(desk)}
    return Opened(desk=desk, gives=gives, reload=(take,), background={"looks at directories": source.keep_looking})


ROOM: Final = Room(
    name="directory", calls=CALLS, section=DirectoriesSection, administer=open_directories,
    acts=("directory:add", "directory:change", "directory:disable", "directory:enable"),
)  # fmt: skip
