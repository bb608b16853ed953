"""Records the ends of operations in the audit log: the job worker stores them in the state, an API worker records them.

It follows the events of the state and stores its position there, so that an end is recorded even if every process dies
in between; then possibly twice.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from ashore.core.errors import AshoreError, NotFound
from ashore.data.jobs import JobQueue
from ashore.data.jobs.model import FINAL, REFUSED, Job
from ashore.data.jobs.operations.model import Request, name_of
from ashore.kit.recorder import Act, ActOutcome, Recorder
from ashore.kit.state import EVENTS as EPOCH
from ashore.kit.state import Database, EpochWatch, Event, events_after, events_read, events_span, keep_events_read

log = logging.getLogger("ashore.worker")

AT_ONCE: Final = 200
AGAIN_S: Final = 5.0
READER: Final = "operations recorded"


class EndsRecorder:
    """Records the ends of the operations of one home."""

    def __init__(self, database: Database, queue: JobQueue, recorder: Recorder, *, home: str) -> None:
        """`home`: its name among those that share the state; empty: the state is its own."""
        self._database = database
        self._queue = queue
        self._recorder = recorder
        self._home = home
        self._reader = f"{READER} {home}".strip()
        self._news = asyncio.Event()

    def watch(self, watch: EpochWatch) -> None:
        """Run `keep_recording` after each event."""
        loop = asyncio.get_running_loop()

        def on_change(kind: str, value: int) -> None:
            if kind == EPOCH:
                loop.call_soon_threadsafe(self._news.set)

        watch.on_change(on_change)

    async def keep_recording(self) -> None:
        """Record ends until cancelled."""
        while True:
            self._news.clear()
            try:
                while await asyncio.to_thread(self.record):
                    pass
            except AshoreError as fault:
                log.warning("cannot record the end of an operation yet: %s", fault.message)
                await asyncio.sleep(AGAIN_S)
                continue
            await self._news.wait()

    def record(self) -> bool:
        """Record the ends since the last call; return whether there may be more."""
        with self._database.read() as connection:
            before = events_read(connection, self._reader)
            reached = events_span(connection)[1] if before is None else before
            found = events_after(connection, reached, limit=AT_ONCE)
        if before is not None and not found:
            return False
        for event in found:
            self._record(event)
        if found:
            self._recorder.settle(AGAIN_S)
            reached = found[-1].number
        with self._database.write() as connection:
            keep_events_read(connection, self._reader, reached)
        return len(found) == AT_ONCE

    def _record(self, event: Event) -> None:
        name, state = str(event.about.get("what", "")), str(event.about.get("state", ""))
        if not name_of(name) or state not in FINAL:
            return
        try:
            job = self._queue.get(str(event.about["job"]), tenant=None)
            request = msgspec.json.decode(self._queue.body(job.job_id).payload, type=Request)
        except NotFound:  # it was deleted meanwhile
            return
        if job.kind.partition("@")[2] == self._home:
            self._recorder.record(act_of(job, request))


def act_of(job: Job, request: Request) -> Act:
    """Return the audit record of an operation's end."""
    outcome: ActOutcome = "done" if job.state == "succeeded" else "denied" if job.error_code == REFUSED else "failed"
    return Act(
        action=request.action,
        actor=job.account,
        tenant=job.tenant,
        resource=request.subject,
        outcome=outcome,
        reason="" if job.state == "succeeded" else f"{job.error_code or job.state}: {job.error_message or job.state}",
        detail={"job": job.job_id, "operation": request.name, "ended": job.state},
    )
