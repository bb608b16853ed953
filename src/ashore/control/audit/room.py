"""The readers of the home's audit log: search, verification, export."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from ashore.control.audit.calls import CALLS
from ashore.control.audit.service import AuditService
from ashore.data.audit import AuditLink
from ashore.data.audit import room as data
from ashore.data.audit.records import BEGIN, INFER
from ashore.data.audit.writer import CLOSE, JUMP, OPEN
from ashore.kit.metrics import Metric, Metrics
from ashore.kit.recorder import Recollection
from ashore.kit.rooms import Context, Opened

_TIME: Final = Metric(
    "ashore_audit_archive_time_seconds",
    "gauge",
    "Unix time at which archiving the audit log last succeeded; 0 if it never did.",
)
_FAILURES: Final = Metric(
    "ashore_audit_archive_failures", "gauge", "Number of consecutive failures to archive the audit log."
)
_ANCHOR_TIME: Final = Metric(
    "ashore_audit_anchor_time_seconds",
    "gauge",
    "Unix time at which an anchor last had every checkpoint of the audit log (`good`), and since which it accepts none "
    "(`silent`; 0 while it accepts them).",
    ("anchor", "what"),
)
_ANCHOR_FAILURES: Final = Metric(
    "ashore_audit_anchor_failures",
    "gauge",
    "Number of consecutive rounds in which an anchor accepted nothing.",
    ("anchor",),
)


async def administer_audit(context: Context) -> Opened:
    """Open what reads the log; nothing if the topology has no audit."""
    link: AuditLink = context.told("audit")
    if not link.path:
        return Opened()
    desk = AuditService(
        Path(link.path), Path(link.keys), context.recorder, anchors=link.section.anchors, opener=link.opener
    )
    return Opened(
        desk=desk,
        gives={Recollection: desk},
        measure=partial(asyncio.to_thread, _measure, desk, context.metrics),
    )


def _measure(desk: AuditService, metrics: Metrics) -> None:
    """Update the gauges of the archive and of the anchors."""
    if (standing := desk.archiving()) is not None:
        metrics.set(_TIME.name, standing.good_us / 1e6)
        metrics.set(_FAILURES.name, standing.failures)
    for one in desk.anchoring():
        metrics.set(_ANCHOR_TIME.name, one.good_us / 1e6, one.place, "good")
        metrics.set(_ANCHOR_TIME.name, one.silent_us / 1e6, one.place, "silent")
        metrics.set(_ANCHOR_FAILURES.name, one.failures, one.place)


ROOM: Final = replace(
    data.ROOM, calls=CALLS, administer=administer_audit,
    metrics=(_TIME, _FAILURES, _ANCHOR_TIME, _ANCHOR_FAILURES),
    acts=(
        BEGIN, CLOSE, INFER, JUMP, OPEN, "audit:anchor", "audit:archive", "audit:erase", "audit:rotate-key",
        "audit:settings", "audit:tampered", "audit:unproven", "writer:start", "writer:stop",
    ),
)  # fmt: skip
