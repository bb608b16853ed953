"""The backup of a home in the control process: its calls, and figures of the scheduled tasks."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from ashore.backup.calls import CALLS, BackupDesk
from ashore.backup.home import BackupHome
from ashore.backup.timetable import Turn, TurnKind
from ashore.metrics import Metric, Metrics
from ashore.rooms import Context, Opened, Room

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
    found = BackupHome(Path(home))
    desk = BackupDesk(home=found, rights=context.rights, recorder=context.recorder, clock=context.clock)
    return Opened(desk=desk, measure=partial(asyncio.to_thread, _measure, found, context.metrics))


def _measure(home: BackupHome, metrics: Metrics) -> None:
    """Update the gauges."""
    table = home.read_timetable()
    if table is None:
        return
    turns: tuple[tuple[TurnKind, Turn], ...] = (("run", table.run), ("scrub", table.scrub))
    for kind, turn in turns:
        metrics.set("ashore_backup_time_seconds", turn.good_s, kind, "good")
        metrics.set("ashore_backup_time_seconds", table.due_s(kind), kind, "due")
        metrics.set("ashore_backup_failures", turn.failures, kind)
    metrics.set("ashore_backup_harms", table.found, "found")
    metrics.set("ashore_backup_harms", table.repaired, "repaired")
    metrics.set("ashore_backup_nodes", len(table.away), "away")
    metrics.set("ashore_backup_nodes", table.spare, "spare")


ROOM: Final = Room(
    name="backup", calls=CALLS, metrics=METRICS, administer=open_backup,
    acts=(
        "backup:confirm", "backup:init", "backup:rehearse", "backup:rekey", "backup:repair", "backup:replace",
        "backup:restore", "backup:scrub",
    ),
)  # fmt: skip
