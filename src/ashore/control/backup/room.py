"""The backup of a home in the control process: its calls, what is queued for it by itself, and figures of that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ashore.control.backup.calls import CALLS, BackupDesk
from ashore.control.backup.home import BackupHome, Tally
from ashore.control.backup.scheduled import RUN, SCRUB, BackupSchedule
from ashore.control.backup.section import BackupSection
from ashore.control.jobs.schedule import Schedule, home_in
from ashore.core.errors import AshoreError
from ashore.data.jobs.schedule import Turn, read_turns
from ashore.kit.metrics import Metric, Metrics
from ashore.kit.rooms import Context, Opened, Room

log = logging.getLogger("ashore.worker")

METRICS: Final = (
    Metric(
        "ashore_backup_time_seconds",
        "gauge",
        "Unix time of the last successful scheduled backup or scrub (`good`), and of the next one (`due`).",
        ("kind", "what"),
    ),
    Metric(
        "ashore_backup_failures", "gauge", "Number of consecutive failures of scheduled backups and scrubs.", ("kind",)
    ),
    Metric("ashore_backup_harms", "gauge", "Faults that scrub and repair have found, and have repaired.", ("what",)),
    Metric(
        "ashore_backup_nodes",
        "gauge",
        "Backup nodes that lack data (`away`), and nodes that may still be lost (`spare`; below 0: data is lost).",
        ("what",),
    ),
)


async def open_backup(context: Context) -> Opened:
    """Open the room, if there is a home."""
    home: str = context.told("home")
    if not home:
        return Opened()
    found, database = BackupHome(Path(home)), context.database
    source = BackupSchedule(found, context.clock, context.section("backup", BackupSection))
    turns = tuple if database is None else partial(read_turns, database, home_in(context))
    desk = BackupDesk(home=found, rights=context.rights, recorder=context.recorder, clock=context.clock, turns=turns)
    schedule = context.find(Schedule)
    if schedule is not None:
        schedule.add(source)

    async def reload(context: Context) -> None:
        source.rules = context.section("backup", BackupSection)
        if schedule is not None:
            schedule.wake()

    def measure() -> None:
        if not found.has_vault:
            return
        try:
            _measure(found.read_tally(), len(source.away), turns(), context.metrics)
        except AshoreError as fault:
            log.warning("cannot read the schedule of backups: %s", fault.message)

    return Opened(desk=desk, reload=(reload,), measure=partial(asyncio.to_thread, measure))


def _measure(tally: Tally, num_away: int, turns: Sequence[Turn], metrics: Metrics) -> None:
    """Update the gauges."""
    for turn in turns:
        kind = {RUN: "run", SCRUB: "scrub"}.get(turn.operation)
        if kind is None:
            continue
        metrics.set("ashore_backup_time_seconds", turn.good_ms / 1000, kind, "good")
        is_scrubbing = turn.state == "running" and kind == "scrub"  # for days, where there is much to read
        metrics.set("ashore_backup_time_seconds", 0 if is_scrubbing else (turn.due_ms or 0) / 1000, kind, "due")
        metrics.set("ashore_backup_failures", turn.failures, kind)
    metrics.set("ashore_backup_harms", tally.found, "found")
    metrics.set("ashore_backup_harms", tally.repaired, "repaired")
    metrics.set("ashore_backup_nodes", num_away, "away")
    if tally.spare is not None:
        metrics.set("ashore_backup_nodes", tally.spare, "spare")


ROOM: Final = Room(
    name="backup", calls=CALLS, section=BackupSection, metrics=METRICS, administer=open_backup,
    acts=(
        "backup:confirm", "backup:init", "backup:rehearse", "backup:rekey", "backup:repair", "backup:replace",
        "backup:restore", "backup:scrub",
    ),
)  # fmt: skip
