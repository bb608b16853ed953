"""A job as the queue's administrators see it: without its content."""

from __future__ import annotations

import msgspec

from ashore.core.timespan import written_moment
from ashore.data.jobs import Job, JobState
from ashore.data.jobs.operations.model import Progress, name_of, progress_of, words_of
from ashore.kit.copied import copied


class Children(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a batch."""

    total: int
    succeeded: int
    failed: int


class JobOut(msgspec.Struct, frozen=True, kw_only=True):
    """One job, without its prompts and answers, which only its owner may read."""

    id: str
    kind: str
    state: JobState
    tenant: str
    owner: str
    priority: int
    attempts: int
    max_attempts: int
    takeovers: int
    """Attempts that ended because their process ended. They do not count as attempts."""
    created: str
    started: str | None
    finished: str | None
    expires: str | None
    deadline: str | None
    cancelling: bool
    children: Children | None
    """Lines of a batch; null for other kinds."""
    progress: str
    """How far an operation is, in words; empty for other kinds."""
    operation: Progress | None
    """How far an operation is, in numbers, and the last lines of its log; null for other kinds. Lists have no logs."""
    error_code: str
    error_message: str
    webhook: str


def job_out(job: Job, *, log: bool = True) -> JobOut:
    """Return a job as administrators see it. `log`: with the last lines of an operation's log."""
    operation = progress_of(job.progress) if name_of(job.kind) else None
    if operation is not None and not log:
        operation = msgspec.structs.replace(operation, log=[])
    return copied(
        JobOut,
        job,
        id=job.job_id,
        kind=name_of(job.kind) or job.kind,
        owner=job.principal.partition("#")[0],
        created=moment(job.created_ms) or "",
        started=moment(job.started_ms),
        finished=moment(job.finished_ms),
        expires=moment(job.expires_ms),
        deadline=moment(job.deadline_ms),
        cancelling=job.cancel_requested and not job.final,
        children=Children(total=job.children_total, succeeded=job.children_succeeded, failed=job.children_failed)
        if job.children_total
        else None,
        progress="" if operation is None or job.final else words_of(operation),
        operation=operation,
    )


def moment(ms: int | None) -> str | None:
    """Return a time in milliseconds as text in UTC."""
    return None if ms is None else written_moment(ms / 1000)
