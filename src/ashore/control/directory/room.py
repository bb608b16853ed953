"""Directories in the control process: the calls, and the looks at what changed."""

from __future__ import annotations

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
    section, allow = context.section("directory", DirectoriesSection), context.told("egress").with_own
    source = DirectorySchedule(context.database, context.clock, section, allow, schedule.wake)
    desk = DirectoryDesk(
        database=context.database, clock=context.clock, rights=context.rights, section=section, allow=allow
    )
    schedule.add(source)

    async def take(context: Context) -> None:
        desk.section = source.section = context.section("directory", DirectoriesSection)
        desk.allow = source.allow = context.told("egress").with_own
        schedule.wake()

    gives = {DirectoryLogIn: DirectoryLogIn(desk)}
    return Opened(desk=desk, gives=gives, reload=(take,), background={"looks at directories": source.keep_looking})


ROOM: Final = Room(
    name="directory", calls=CALLS, section=DirectoriesSection, administer=open_directories,
    acts=("directory:add", "directory:change", "directory:disable", "directory:enable"),
)  # fmt: skip
