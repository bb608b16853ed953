"""What is asked of the queue by whoever looks after it: jobs of all tenants, without what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from ashore.core import Actor, Call, Recorder, Rights
from ashore.jobs.model import Job, JobState
from ashore.jobs.queue import JobQueue

READ: Final = "job:read"
CANCEL: Final = "job:cancel"
LOOKED_THROUGH: Final = 1000
"""Jobs that a list reads at most to find those that the caller may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOffice:
    """The queue, who may touch it, and the audit log of who did."""

    queue: JobQueue
    rights: Rights
    recorder: Recorder


class JobsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs to list."""

    state: JobState | None = None
    """List only jobs in this state."""
    tenant: str = ""
    """List only jobs of this tenant."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LOOKED_THROUGH)] = 20
    """Maximum number of jobs."""


class JobIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which job."""

    job: str
    """Id of the job, as `ashore job list` prints it."""


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
    error_code: str
    error_message: str
    webhook: str


class JobList(msgspec.Struct, frozen=True):
    """Jobs, newest first."""

    items: list[JobOut]


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a cancellation."""

    job: JobOut
    changed: bool
    """False if the job had already ended."""


def list_jobs(office: JobOffice, actor: Actor, asked: JobsIn) -> JobList:
    """List jobs, newest first. The lines of a batch are counted in its `children`."""
    found = office.queue.store.select(
        limit=LOOKED_THROUGH,
        tenant=asked.tenant or None,
        states=() if asked.state is None else (asked.state,),
        parent_id="",
    )
    seen = [job for job in found if office.rights.decide(actor.principal, READ, resource_of(job)).allowed]
    return JobList([job_out(job) for job in seen[: asked.limit]])


def show_job(office: JobOffice, actor: Actor, asked: JobIn) -> JobOut:
    """Show one job. Prompts and answers are not shown; only the job's owner may read them."""
    job = office.queue.get(asked.job, tenant=None)
    office.rights.require(actor.principal, READ, resource_of(job))
    return job_out(job)


def cancel_job(office: JobOffice, actor: Actor, asked: JobIn) -> Cancelled:
    """Cancel a job. A batch keeps the answers it already has. A job that has ended does not change."""
    job = office.queue.get(asked.job, tenant=None)
    office.rights.require(actor.principal, CANCEL, resource_of(job))
    changed = office.queue.cancel(job.job_id)
    if changed is not None:
        actor.record(office.recorder, CANCEL, resource_of(job), detail={"kind": job.kind})
    return Cancelled(job=job_out(changed or office.queue.get(job.job_id, tenant=None)), changed=changed is not None)


CALLS: Final = (
    Call("job", "list", "GET", "/jobs", READ, list_jobs),
    Call("job", "show", "GET", "/jobs/{job}", READ, show_job),
    Call("job", "cancel", "POST", "/jobs/{job}/cancel", CANCEL, cancel_job),
)


def resource_of(job: Job) -> str:
    """Return what a right on a job names."""
    return f"tenant/{job.tenant}/job/{job.job_id}"


def job_out(job: Job) -> JobOut:
    """Return a job as the queue's keeper sees it."""
    return JobOut(
        id=job.job_id,
        kind=job.kind,
        state=job.state,
        tenant=job.tenant,
        owner=job.principal.partition("#")[0],
        priority=job.priority,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        takeovers=job.takeovers,
        created=_moment(job.created_ms) or "",
        started=_moment(job.started_ms),
        finished=_moment(job.finished_ms),
        expires=_moment(job.expires_ms),
        deadline=_moment(job.deadline_ms),
        cancelling=job.cancel_requested and not job.final,
        children=Children(total=job.children_total, succeeded=job.children_succeeded, failed=job.children_failed)
        if job.children_total
        else None,
        error_code=job.error_code,
        error_message=job.error_message,
        webhook=job.webhook,
    )


def _moment(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
