"""The audit log of a process: written by every one, each its own chain."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.data.audit.content import SUBJECTS_EPOCH, ContentSealer, SqlSubjectKeys
from ashore.data.audit.launch import AuditLink, open_log
from ashore.data.audit.log import AuditLog
from ashore.kit.recorder import Recorder
from ashore.kit.rooms import Context, Opened, Room

RECORD_END_S: Final = 10.0
"""How long the log of a process that stops may take to write what it was told."""


async def open_audit(context: Context) -> Opened:
    """Open the log of this process; nothing if the topology has no audit.

    Raises:
        AuditUnavailable: it cannot be written; the process must not serve without it.
    """
    link: AuditLink = context.told("audit")
    if not link.path:
        return Opened()
    log = await asyncio.to_thread(partial(open_log, link, context.process))
    return Opened(
        gives={Recorder: log, AuditLog: log},
        over_state=partial(_keep_content, log) if log.keeps_content else None,
        close=partial(asyncio.to_thread, log.close, RECORD_END_S),
    )


def _keep_content(log: AuditLog, context: Context) -> None:
    """Encrypt prompts and answers under keys of the state; erasures also drop keys in memory."""
    if context.database is None or context.watch is None:
        raise InvalidSpec('[audit] content = "sealed" needs a state database', hint="set url under [state]")
    sealer = ContentSealer(SqlSubjectKeys(context.database))
    context.watch.on_change(lambda kind, value: sealer.forget() if kind == SUBJECTS_EPOCH else None)
    log.seal_content_with(sealer)


ROOM: Final = Room(name="audit", open=open_audit, stage="record")
