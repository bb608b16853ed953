"""The queue as a process sees it that takes requests: submission, files, conversations."""

from __future__ import annotations

from typing import Final

from ashore.data.jobs.desk import JobDesk, make_desk
from ashore.data.jobs.ports import Quotas
from ashore.kit.rooms import Context, Opened, Room


async def open_jobs(context: Context) -> Opened:
    """Open the queue; without a state it accepts no jobs."""
    desk = make_desk(
        context.database, context.clock, context.told("jobs"), context.told("egress"), context.find(Quotas)
    )
    return Opened(gives={JobDesk: desk})


ROOM: Final = Room(name="jobs", open=open_jobs, stage="serving")
