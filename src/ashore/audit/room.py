"""The audit log of an API worker, and the readers of the home's log."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from ashore.audit.calls import CALLS
from ashore.audit.content import SUBJECTS_EPOCH, ContentSealer, SqlSubjectKeys
from ashore.audit.launch import AuditLink, open_log
from ashore.audit.log import AuditLog
from ashore.audit.records import BEGIN, INFER
from ashore.audit.service import AuditService
from ashore.audit.writer import CLOSE, JUMP, OPEN
from ashore.core import Recollection, Recorder
from ashore.errors import InvalidSpec
from ashore.metrics import Metric, Metrics
from ashore.rooms import Context, Opened, Room

RECORD_END_S: Final = 10.0
"""How long the log of a worker that stops may take to write what it was told."""
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


async def open_audit(context: Context) -> Opened:
    """Open the log of this worker; nothing if the topology has no audit.

    Raises:
        AuditUnavailable: it cannot be written; the worker must not serve without it.
    """
    link: AuditLink = context.told("audit")
    if not link.path:
        return Opened()
    log = await asyncio.to_thread(partial(open_log, link, f"api-{context.worker}"))
    desk = AuditService(Path(link.path), Path(link.keys), log, anchors=link.section.anchors, opener=link.opener)
    return Opened(
        desk=desk,
        gives={Recorder: log, AuditLog: log, Recollection: desk},
        over_state=partial(_keep_content, log) if log.keeps_content else None,
        measure=partial(asyncio.to_thread, _measure, desk, context.metrics),
        close=partial(asyncio.to_thread, log.close, RECORD_END_S),
    )


def _keep_content(log: AuditLog, context: Context) -> None:
    """Encrypt prompts and answers under keys of the state; erasures also drop keys in memory.

    Raises:
        InvalidSpec: there is no state.
    """
    if context.database is None or context.watch is None:
        raise InvalidSpec('[audit] content = "sealed" needs a state database', hint="set url under [state]")
    sealer = ContentSealer(SqlSubjectKeys(context.database))
    context.watch.on_change(lambda kind, value: sealer.forget() if kind == SUBJECTS_EPOCH else None)
    log.seal_content_with(sealer)


def _measure(desk: AuditService, metrics: Metrics) -> None:
    """Update the gauges of the archive and of the anchors."""
    if (standing := desk.archiving()) is not None:
        metrics.set(_TIME.name, standing.good_us / 1e6)
        metrics.set(_FAILURES.name, standing.failures)
    for one in desk.anchoring():
        metrics.set(_ANCHOR_TIME.name, one.good_us / 1e6, one.place, "good")
        metrics.set(_ANCHOR_TIME.name, one.silent_us / 1e6, one.place, "silent")
        metrics.set(_ANCHOR_FAILURES.name, one.failures, one.place)


ROOM: Final = Room(
    name="audit", calls=CALLS, open=open_audit, stage="record",
    metrics=(_TIME, _FAILURES, _ANCHOR_TIME, _ANCHOR_FAILURES),
    acts=(
        BEGIN, CLOSE, INFER, JUMP, OPEN, "audit:anchor", "audit:archive", "audit:erase", "audit:rotate-key",
        "audit:settings", "audit:tampered", "audit:unproven", "writer:start", "writer:stop",
    ),
)  # fmt: skip
