"""The queue in an API worker: submission and administration."""

from __future__ import annotations

import asyncio
import logging
import platform
from functools import partial
from typing import Final

from ashore.core import parse_allow
from ashore.errors import AshoreError
from ashore.jobs.calls import CALLS
from ashore.jobs.desk import JobDesk, make_desk
from ashore.jobs.office import JobOffice
from ashore.jobs.operations.model import name_of
from ashore.jobs.operations.recording import EndsRecorder
from ashore.jobs.operations.sources import Reach
from ashore.jobs.ports import Quotas
from ashore.metrics import Metric, Metrics
from ashore.rooms import Context, Opened, Room, Work

log = logging.getLogger("ashore.worker")

JOBS: Final = Metric(
    "ashore_jobs",
    "gauge",
    "Jobs in the queue, by kind and state. Every worker reports the same numbers.",
    ("kind", "state"),
)


async def open_jobs(context: Context) -> Opened:
    """Open the queue; without a state it accepts no jobs."""
    desk = make_desk(
        context.database, context.clock, context.told("jobs"), context.told("egress"), context.find(Quotas)
    )
    office = JobOffice(
        queue=desk.queue,
        rights=context.rights,
        recorder=context.recorder,
        reach=Reach(folders=desk.limits.folders, allow=parse_allow(desk.egress.allow)),
        home=f"{platform.node()}:{context.told('home')}" if context.told("state").url else "",
        result_ttl_ms=desk.limits.result_ttl_ms,
    )
    background: dict[str, Work] = {}
    if context.database is not None and context.watch is not None and context.worker == 0:
        ends = EndsRecorder(context.database, desk.queue, context.recorder, home=office.home)
        ends.watch(context.watch)
        background["ends of operations"] = ends.keep_recording
    return Opened(
        desk=office if desk.worked else None,
        gives={JobDesk: desk},
        background=background,
        measure=partial(asyncio.to_thread, _count, desk, context.metrics),
    )


def _count(desk: JobDesk, metrics: Metrics) -> None:
    """Update the gauges of the queue; only one worker does, because metrics pages are summed."""
    found: dict[tuple[str, str], int] = {}
    try:
        for (kind, state), number in desk.queue.counts().items():
            named = (name_of(kind) or kind, state)
            found[named] = found.get(named, 0) + number
    except AshoreError as fault:
        log.warning("cannot count the jobs in the queue: %s", fault.message)
        return
    for labels, _ in metrics.values_of(JOBS.name):
        if labels not in found:
            metrics.set(JOBS.name, 0, *labels)
    for labels, number in found.items():
        metrics.set(JOBS.name, number, *labels)


ROOM: Final = Room(
    name="jobs", calls=CALLS, acts=("optimize:evaluate",), metrics=(JOBS,), open=open_jobs, stage="serving"
)
