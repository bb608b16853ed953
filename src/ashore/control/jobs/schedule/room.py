"""The schedule, to which rooms add what they have queued; `jobs` keeps it."""

from __future__ import annotations

import platform
from typing import Final

from ashore.control.jobs.schedule.keeping import Schedule
from ashore.kit.rooms import Context, Opened, Room


def home_in(context: Context) -> str:
    """Return the name of the home of a process among those that share its state; empty: the state is its own."""
    return f"{platform.node()}:{context.told('home')}" if context.told("state").url else ""


async def open_schedule(context: Context) -> Opened:
    """Give an empty schedule, where there is a state to keep it in."""
    return Opened(gives={} if context.database is None else {Schedule: Schedule()})


ROOM: Final = Room(name="schedule", administer=open_schedule)
