"""The queue as an API worker has it: what it hands in, and what administrators ask of it."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from ashore.errors import AshoreError
from ashore.jobs.calls import CALLS, JobOffice
from ashore.jobs.desk import JobDesk, make_desk
from ashore.jobs.ports import Quotas
from ashore.metrics import Metric, Metrics
from ashore.rooms import Context, Opened, Room

log = logging.getLogger("ashore.worker")

JOBS: Final = Metric(
    "ashore_jobs",
    "gauge",
    "Jobs in the queue, by kind and state. Every worker reports the same numbers.",
    ("kind", "state"),
)


async def open_jobs(context: Context) -> Opened:
    """Open the queue; without a state nothing can be submitted."""
    desk = make_desk(
        context.database, context.clock, context.told("jobs"), context.told("egress"), context.find(Quotas)
    )
    office = JobOffice(queue=desk.queue, rights=context.rights, recorder=context.recorder)
    return Opened(
        desk=office if desk.worked else None,
        gives={JobDesk: desk},
        measure=partial(asyncio.to_thread, _count, desk, context.metrics),
    )


def _count(desk: JobDesk, metrics: Metrics) -> None:
    """Bring the gauges of the queue up to date; one worker does, because the pages of all are added up."""
    try:
        found = desk.queue.counts()
    except AshoreError as fault:
        log.warning("cannot count the jobs in the queue: %s", fault.message)
        return
    for labels, _ in metrics.values_of(JOBS.name):
        if labels not in found:
            metrics.set(JOBS.name, 0, *labels)
    for labels, number in found.items():
        metrics.set(JOBS.name, number, *labels)


ROOM: Final = Room(name="jobs", calls=CALLS, metrics=(JOBS,), open=open_jobs, stage="serving")
