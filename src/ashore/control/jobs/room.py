"""The desk of jobs and operations, and what is recorded of their ends."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import Final

from ashore.control.jobs.calls import CALLS
from ashore.control.jobs.office import JobOffice
from ashore.control.jobs.operations.recording import EndsRecorder
from ashore.control.jobs.operations.sources import Reach
from ashore.control.jobs.schedule import Schedule, home_in
from ashore.core.errors import AshoreError
from ashore.data.jobs import JobDesk
from ashore.data.jobs import room as data
from ashore.data.jobs.operations.model import name_of
from ashore.data.jobs.schedule import read_turns
from ashore.kit.egress import parse_allow
from ashore.kit.metrics import Metric, Metrics
from ashore.kit.rooms import Context, Opened, Work

log = logging.getLogger("ashore.worker")

JOBS: Final = Metric(
    "ashore_jobs",
    "gauge",
    "Jobs in the queue, by kind and state. Every worker reports the same numbers.",
    ("kind", "state"),
)


async def administer_jobs(context: Context) -> Opened:
    """Open the desk of jobs and operations; nothing without a state."""
    desk = context.need(JobDesk)
    home = home_in(context)
    office = JobOffice(
        queue=desk.queue,
        rights=context.rights,
        recorder=context.recorder,
        reach=Reach(folders=desk.limits.folders, allow=parse_allow(desk.egress.allow)),
        home=home,
        result_ttl_ms=desk.limits.result_ttl_ms,
        turns=tuple if context.database is None else partial(read_turns, context.database, home),
    )
    background: dict[str, Work] = {}
    if context.database is not None and context.watch is not None:
        ends = EndsRecorder(context.database, desk.queue, context.recorder, home=office.home)
        ends.watch(context.watch)
        background["ends of operations"] = ends.keep_recording
        if (schedule := context.find(Schedule)) is not None:
            background["schedule"] = partial(schedule.keep, context.database, office)
    return Opened(
        desk=office if desk.worked else None,
        background=background,
        measure=partial(asyncio.to_thread, _count, desk, context.metrics),
    )


def _count(desk: JobDesk, metrics: Metrics) -> None:
    """Update the gauges of the queue."""
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


ROOM: Final = replace(data.ROOM, calls=CALLS, acts=("optimize:evaluate",), metrics=(JOBS,), administer=administer_jobs)
