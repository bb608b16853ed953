"""An API worker's access to the job queue: submit work and query its state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ashore.core.clock import Clock
from ashore.core.errors import NotReady
from ashore.data.jobs.conversations import SqlConversations
from ashore.data.jobs.filesql import SqlFiles
from ashore.data.jobs.model import Job, NewJob
from ashore.data.jobs.paging import page_length
from ashore.data.jobs.ports import Quotas
from ashore.data.jobs.queue import JobQueue
from ashore.data.jobs.quota import NoQuotas
from ashore.data.jobs.section import EgressSection, JobsSection
from ashore.data.jobs.sql import SqlJobs
from ashore.kit.state import Database, execute, open_scratch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EventChunk:
    """Consecutive events."""

    last: int
    """Number of the last one."""
    events: bytes


class SqlEvents:
    """Events of jobs in the state. Every method is one blocking transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, job_id: str, attempt: int, chunk: EventChunk) -> bool:
        """Store a chunk; False, and nothing stored, if another attempt has the job."""
        statement = (
            "INSERT INTO job_event (job_id, last, events) SELECT :id, :last, :events WHERE EXISTS "
            "(SELECT 1 FROM job WHERE job_id = :id AND lease_number = :attempt AND state = 'running') "
            "ON CONFLICT DO NOTHING"
        )
        with self._database.write() as connection:
            values: dict[str, object] = {"id": job_id, "last": chunk.last, "events": chunk.events, "attempt": attempt}
            if not execute(connection, statement, **values).rowcount:
                return False
            execute(
                connection,
                "UPDATE job SET num_bytes = num_bytes + :more WHERE job_id = :id",
                id=job_id,
                more=len(chunk.events),
            )
            return True

    def begin_calls(self, job_id: str, attempt: int) -> bool:
        """Note, before it calls a tool, that an attempt does; False: an earlier one did, or it has the job no more."""
        statement = (
            "UPDATE job SET progress = :mark WHERE job_id = :id AND lease_number = :attempt AND state = 'running' "
            "AND progress IN ('', :mark)"
        )
        with self._database.write() as connection:
            values: dict[str, object] = {"id": job_id, "attempt": attempt, "mark": f'{{"calls_of":{attempt}}}'}
            return execute(connection, statement, **values).rowcount > 0

    def last(self, job_id: str) -> int:
        """Return the number of the last stored event; -1 if there is none."""
        with self._database.read() as connection:
            found = execute(connection, "SELECT MAX(last) FROM job_event WHERE job_id = :id", id=job_id).scalar()
            return -1 if found is None else int(found)

    def after(self, job_id: str, number: int, *, limit: int) -> list[EventChunk]:
        """Return the chunks with events after a number, in order: at most `limit`, and one page."""
        where = "WHERE job_id = :id AND last > :number ORDER BY last LIMIT :limit"
        sizes, rows = f"SELECT LENGTH(events) FROM job_event {where}", f"SELECT last, events FROM job_event {where}"
        with self._database.read() as connection:
            values: dict[str, object] = {"id": job_id, "number": number}
            lengths = [int(row[0]) for row in execute(connection, sizes, limit=limit, **values)]
            found = execute(connection, rows, limit=page_length(lengths), **values).mappings()
            return [EventChunk(int(row["last"]), bytes(row["events"])) for row in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDesk:
    """The queue, files and conversations, with their checks."""

    queue: JobQueue
    files: SqlFiles
    conversations: SqlConversations
    events: SqlEvents
    limits: JobsSection = field(default_factory=JobsSection)
    egress: EgressSection = field(default_factory=EgressSection)
    quotas: Quotas = field(default_factory=NoQuotas)
    worked: bool = True
    """Whether there is a worker that will run what is submitted."""

    async def call(self, work: Callable[[], T]) -> T:
        """Run a function on the state, on a thread."""
        return await asyncio.to_thread(work)

    async def check(self, job: NewJob) -> None:
        """Check that a job could be stored now. Reads the disk usage.

        Raises:
            NotReady: this server runs no jobs. DiskFull: there is no room for it.
            BudgetExceeded: its tenant stores too much.
        """
        self.require_state()
        most, length = self.quotas.most("stored_bytes", job.tenant), len(job.payload)
        await self.call(lambda: self.queue.store.check_room(job.tenant, length, most))

    async def submit(self, job: NewJob) -> Job:
        """Store a job durably.

        Raises:
            NotReady: this server runs no jobs.
            Conflict: its idempotency key was used for something else.
        """
        self.require_state()
        return await self.call(lambda: self.queue.submit(job))

    def require_state(self) -> None:
        """Check that there is a state to store things in.

        Raises:
            NotReady: this server has no state.
        """
        if not self.worked:
            raise NotReady(
                "this server runs no jobs, because it has no state database", hint="start it with `ashore up`"
            )


def make_desk(
    database: Database | None,
    clock: Clock,
    limits: JobsSection,
    egress: EgressSection,
    quotas: Quotas | None = None,
) -> JobDesk:
    """Return the desk on the state; without a state, on a scratch one that accepts no jobs."""
    quotas, worked = quotas or NoQuotas(), database is not None
    database = database or open_scratch()
    queue = JobQueue(SqlJobs(database), clock, quotas=quotas)
    return JobDesk(
        queue=queue,
        files=SqlFiles(database),
        conversations=SqlConversations(database),
        events=SqlEvents(database),
        limits=limits,
        egress=egress,
        quotas=quotas,
        worked=worked,
    )
