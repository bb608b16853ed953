"""Calls on the queue: jobs of all tenants for its administrators, and for everyone their own; without what is
in them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import msgspec

from ashore.control.jobs.office import JobOffice
from ashore.control.jobs.operations.calls import CALLS as OPERATIONS
from ashore.control.jobs.operations.calls import check_still, run_again
from ashore.control.jobs.standing import JobOut, job_out, moment
from ashore.core.errors import InvalidRequest
from ashore.data.jobs.model import JOB_READ, Job, JobState, resource_of
from ashore.data.jobs.schedule.rows import TurnState
from ashore.kit.call import Actor, Call, Nothing
from ashore.kit.copied import copied

READ: Final = JOB_READ
CANCEL: Final = "job:cancel"
LOOKED_THROUGH: Final = 1000
"""Jobs that a list reads at most to find those that the caller may see."""


class JobsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs to list."""

    state: JobState | None = None
    """List only jobs in this state."""
    tenant: str = ""
    """List only jobs of this tenant."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LOOKED_THROUGH)] = 20
    """Maximum number of jobs."""


JobIn = Annotated[str, msgspec.Meta(description="Id of the job, as `ashore job list` prints it.")]


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a cancellation."""

    job: JobOut
    changed: bool
    """False if the job had already ended."""


class TurnOut(msgspec.Struct, frozen=True, kw_only=True):
    """One operation that is queued by itself, and its last turn."""

    name: str
    when: str
    """When it begins; empty: not by itself at present."""
    due: str | None
    """When it begins next; null: not foreseen."""
    last: TurnState
    """How the last turn ended. `interrupted`: it was cut off, and begins again."""
    began: str | None
    ended: str | None
    failures: int
    """Turns that failed since one succeeded."""
    job: str
    says: str
    """Result of the last turn."""


class StillAllowed(msgspec.Struct, frozen=True, kw_only=True):
    """The job may run."""

    job: str


def list_jobs(office: JobOffice, actor: Actor, asked: JobsIn) -> list[JobOut]:
    """List jobs, newest first: your own, and those that you may look after. The lines of a batch are counted in its
    `children`."""
    every = office.rights.holds(actor.principal, READ)
    found = office.queue.store.select(
        limit=LOOKED_THROUGH if every or actor.principal.is_narrowed_key else asked.limit,
        tenant=asked.tenant or None if every else actor.principal.tenant,
        account=None if every else actor.principal.id,
        states=() if asked.state is None else (asked.state,),
        parent_id="",
    )
    if asked.tenant:
        found = [job for job in found if job.tenant == asked.tenant]
    seen = [job for job in found if _is_own(actor, job) or _looks_after(office, actor, job)]
    return [job_out(job, log=False) for job in seen[: asked.limit]]


def show_job(office: JobOffice, actor: Actor, job: JobIn) -> JobOut:
    """Show one job. Prompts and answers are not shown; only the job's owner may read them."""
    return job_out(_job(office, actor, READ, job))


def cancel_job(office: JobOffice, actor: Actor, job: JobIn) -> Cancelled:
    """Cancel a job. A batch keeps the answers it already has. A job that has ended does not change."""
    found = _job(office, actor, CANCEL, job)
    record = partial(actor.record, office.recorder, CANCEL, resource_of(found), detail={"kind": found.kind})
    changed = office.queue.cancel(job, record=lambda connection: record(on=connection))
    return Cancelled(job=job_out(changed or office.queue.get(job, tenant=None)), changed=changed is not None)


def list_schedule(office: JobOffice, actor: Actor, asked: Nothing) -> list[TurnOut]:
    """List what the server queues by itself: when it begins next, and how the last turn ended."""
    office.rights.require(actor.principal, READ, "schedule/*")
    return [
            copied(
                TurnOut, one, when=one.plan, due=moment(one.due_ms), last=one.state, job=one.job_id,
                began=moment(one.began_ms or None), ended=moment(one.ended_ms or None),
            )
            for one in office.turns()
        ]  # fmt: skip


def repeat_job(office: JobOffice, actor: Actor, job: JobIn) -> JobOut:
    """Run an operation again that has ended: after an interruption, or once the cause of its failure is mended.

    A pull, a seal, a training and a pruning go on where they stopped.
    """
    return run_again(office, actor, _job(office, actor, READ, job))


def allowed_job(office: JobOffice, actor: Actor, job: JobIn) -> StillAllowed:
    """Check whether you may still do what a job of yours does. It is asked for you when an operation starts."""
    found = office.queue.get(job, tenant=actor.principal.tenant)
    if not _is_own(actor, found):
        office.rights.require(actor.principal, READ, resource_of(found))
        raise InvalidRequest(f"{job} is not yours", hint=f"see it: ashore job show {job}")
    check_still(office, actor, found)
    return StillAllowed(job=job)


def _job(office: JobOffice, actor: Actor, action: str, job_id: str) -> Job:
    """Return a job that is the caller's own, or that they have the right to look after."""
    job = office.queue.get(job_id, tenant=None)
    if not _is_own(actor, job):
        office.rights.require(actor.principal, action, resource_of(job))
    return job


def _is_own(actor: Actor, job: Job) -> bool:
    return actor.principal.owns(job.tenant, job.account, acted_as=job.principal)


def _looks_after(office: JobOffice, actor: Actor, job: Job) -> bool:
    return office.rights.decide(actor.principal, READ, resource_of(job)).allowed


CALLS: Final = (
    Call("job", "list", "GET", "/jobs", "", list_jobs),
    Call("job", "show", "GET", "/jobs/{job}", "", show_job),
    Call("job", "cancel", "POST", "/jobs/{job}/cancel", "", cancel_job),
    Call("job", "again", "POST", "/jobs/{job}/again", "", repeat_job),
    Call("job", "schedule", "GET", "/schedule", READ, list_schedule),
    Call("job", "allowed", "GET", "/jobs/{job}/allowed", "", allowed_job),
    *OPERATIONS,
)
