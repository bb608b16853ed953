"""Jobs for tests, and how they are leased."""

from __future__ import annotations

from ashore.core.clock import ManualClock
from ashore.data.jobs import JobQueue, Lease, NewJob, SqlJobs


def new(job_id: str, **options: object) -> NewJob:
    values: dict[str, object] = {"kind": "call", "tenant": "a", "principal": "p", "payload": b"{}", **options}
    return NewJob(job_id=job_id, **values)  # type: ignore[arg-type]


def queue_over(store: SqlJobs, clock: ManualClock) -> JobQueue:
    return JobQueue(store, clock, lease_s=30, jitter=lambda: 0.0)


def lease(queue: JobQueue, limit: int = 1, owner: str = "w", kinds: tuple[str, ...] = ("call",)) -> list[Lease]:
    return queue.lease(kinds=kinds, limit=limit, owner=owner)


def ids(leases: list[Lease]) -> list[str]:
    return [one.job.job_id for one in leases]
