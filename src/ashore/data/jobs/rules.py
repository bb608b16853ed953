"""State transitions of a job, as pure functions.

Every change of a running job checks the lease's number. A worker that lost its lease (slow, disconnected, or asleep)
therefore changes nothing when it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec

from ashore.data.jobs.model import (
    WEBHOOK_KIND,
    Again,
    Cancelled,
    Change,
    CutOff,
    Done,
    Failed,
    Interrupted,
    Job,
    JobState,
    JobTerms,
    NewJob,
    Outcome,
)

Rule = Callable[[Job], Change | None]
"""Given a job as it stands, returns what becomes of it; None: nothing."""

WEBHOOK_ATTEMPTS: Final = 12
"""With the longest pause of ten minutes between two: about an hour."""
WEBHOOK_TTL_MS: Final = 7 * 86_400_000
MOST_DEATHS: Final = 2
"""Processes that may die while a job is under way: the API worker or the engine's host that has it, or the job worker.
Then it ends as a dead letter, since it may be what kills them. Fewer than the exits after which the supervisor gives a
child up (`kit/processes/restart.py`).

An innocent job is blamed only if it is hit twice. So after its first death a job is a suspect, and begins once nothing
died for a while, beside no other job that has only begun (`runner.py`): what ran beside a job that kills is hit by it
once. Not deaths: a worker that was told to stop, a host that was away before the job reached it, an answer that says
what is wrong, a lease that ran out, and everything that ended together with the supervisor (a power cut, `kill -9`)."""
MOST_TAKEOVERS: Final = 30
"""Times that what a job runs on may end, or be away, under it, without a death. With the pauses between, which grow to
ten minutes, that takes two to three hours."""
LEASE_LOST: Final = "the worker that ran the job ended, or did not renew its lease"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a webhook, in OpenAI's form."""

    id: str
    object: str = "event"
    created_at: int
    type: str
    data: dict[str, str]


class WebhookCall(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a webhook job."""

    url: str
    event: Event


def queued(new: NewJob, now_ms: int) -> Job:
    """Return the queued job for `new`."""
    done = new.result is not None
    return Job(
        **{name: getattr(new, name) for name in JobTerms.__dataclass_fields__},
        account=new.principal.partition("#")[0],
        state="succeeded" if done else "queued",
        created_ms=now_ms,
        not_before_ms=now_ms,
        started_ms=now_ms if done else None,
        finished_ms=now_ms if done else None,
        expires_ms=now_ms + new.ttl_ms if done else None,
        num_bytes=len(new.payload) + len(new.result or b""),
    )


def take(job: Job, *, owner: str, now_ms: int, lease_ms: int) -> Job:
    """Return a queued job as leased by `owner`."""
    return replace(
        job,
        state="running",
        attempts=job.attempts + 1,
        lease_number=job.lease_number + 1,
        lease_until_ms=now_ms + lease_ms,
        owner=owner,
        started_ms=job.started_ms if job.started_ms is not None else now_ms,
    )


def held(job: Job, number: int) -> bool:
    """Return whether the lease with this number still holds the job."""
    return job.state == "running" and job.lease_number == number


def renew(job: Job, *, number: int, now_ms: int, lease_ms: int, progress: str | None = None) -> Change | None:
    """Extend a lease, and store progress."""
    if not held(job, number):
        return None
    told = job.progress if progress is None else progress
    return Change(job=replace(job, lease_until_ms=now_ms + lease_ms, progress=told))


def settle(job: Job, *, number: int, outcome: Outcome, now_ms: int, jitter: float) -> Change | None:
    """Record how an attempt ended; None if the lease is lost and the attempt does not count.

    Args:
        jitter: A random number in [0, 1), for the pause before the next attempt.
    """
    if not held(job, number):
        return None
    match outcome:
        case Done(result=result):
            return _end(job, "succeeded", now_ms, result=result)
        case Failed(code=code, message=message, result=result):
            return _end(job, "failed", now_ms, result=result, code=code, message=message)
        case Interrupted(code=code, message=message):
            return _end(job, "interrupted", now_ms, code=code, message=message)
        case Cancelled(result=result):
            return _end(job, "cancelled", now_ms, result=result)
        case Again(after_s=after_s, counted=counted, code=code, message=message):
            if counted and job.attempts >= job.max_attempts:
                return _end(job, "dead", now_ms, code=code, message=message)
            pause_s = backoff_s(job.attempts, jitter) if after_s is None else after_s
            if not counted and job.children_total and not children_left(job):
                pause_s = 0.0  # its last child ended while it decided to wait
            back = _set_back(job, now_ms + int(pause_s * 1000), code, message)
            return Change(job=back if counted else replace(back, attempts=job.attempts - 1))
        case CutOff(code=code, message=message, died=died):
            return _take_over(job, now_ms, jitter, code, message, died=died)


def cancel(job: Job, now_ms: int) -> Change | None:
    """Cancel a job. An ended job stays as it is; a job whose handler ends it is notified and woken."""
    if job.final:
        return None
    if job.cancel_mode == "at_once":
        return _end(job, "cancelled", now_ms)
    told = replace(job, cancel_requested=True)
    return Change(job=replace(told, not_before_ms=now_ms) if job.state == "queued" else told)


def sweep(job: Job, now_ms: int, jitter: float) -> Change | None:
    """Reclaim a job with an expired lease, or end one past its deadline. None: no change."""
    if job.final:
        return None
    if job.deadline_ms is not None and job.deadline_ms <= now_ms:
        return _end(
            job, "expired", now_ms, code="deadline_exceeded", message="the deadline passed before the job ended"
        )
    if job.state == "running" and job.lease_until_ms <= now_ms:
        return _take_over(job, now_ms, jitter, "lease_lost", LEASE_LOST)
    return None


def recover(job: Job, *, owner: str, since_ms: int, lease_ms: int, now_ms: int, jitter: float) -> Change | None:
    """Reclaim a job of an earlier worker of the same owner, without waiting for its lease: there is only one such
    worker.

    A lease renewed after `since_ms`, when the supervisor started, belonged to a worker that died alone. Otherwise
    worker and supervisor ended together, and none of its jobs is to blame.
    """
    if job.state != "running" or job.owner != owner:
        return None
    died = job.lease_until_ms - lease_ms >= since_ms
    return _take_over(job, now_ms, jitter, "lease_lost", LEASE_LOST, died=died)


def child_ended(parent: Job, child: Job, now_ms: int) -> Job:
    """Count the end of a child; the last one wakes a waiting parent."""
    ok = child.state == "succeeded"
    counted = replace(
        parent,
        children_succeeded=parent.children_succeeded + ok,
        children_failed=parent.children_failed + (not ok),
    )
    if not children_left(counted) and counted.state == "queued":
        return replace(counted, not_before_ms=min(counted.not_before_ms, now_ms))
    return counted


def children_left(job: Job) -> int:
    """Return how many children of a job have not ended."""
    return job.children_total - job.children_succeeded - job.children_failed


def adopt(job: Job, *, number: int, children: tuple[NewJob, ...], progress: str) -> Change | None:
    """Add children to a running job, in the transaction that stores its progress. This progress clears it of an earlier
    death.
    """
    if not held(job, number):
        return None
    grown = replace(job, children_total=job.children_total + len(children), progress=progress, deaths=0)
    return Change(job=grown, spawn=children)


def _take_over(job: Job, now_ms: int, jitter: float, code: str, message: str, *, died: bool = False) -> Change:
    """Requeue a job whose attempt ended with what it ran on: at once the first time, then after growing pauses.

    A killed worker or API says little about its jobs, so it does not count as an attempt. But a job may be the cause,
    so it ends after `MOST_DEATHS` or `MOST_TAKEOVERS`.
    """
    job = replace(job, takeovers=job.takeovers + 1, deaths=job.deaths + died)
    if job.deaths >= MOST_DEATHS or job.takeovers > MOST_TAKEOVERS:
        what = f"{job.deaths} processes died while it was under way" if died else f"this was attempt {job.takeovers}"
        often = f"{message}; {what}, so the job itself may be the cause, and it is not run again"
        return _end(job, "dead", now_ms, code=code, message=often)
    pause_s = backoff_s(job.takeovers - 1, jitter) if job.takeovers > 1 else 0.0
    back = _set_back(job, now_ms + int(pause_s * 1000), code, message)
    return Change(job=replace(back, attempts=job.attempts - 1))


def _set_back(job: Job, due_ms: int, code: str, message: str) -> Job:
    return replace(
        job, state="queued", not_before_ms=due_ms, lease_until_ms=0, owner="", error_code=code, error_message=message
    )


def _end(
    job: Job, state: JobState, now_ms: int, *, result: bytes | None = None, code: str = "", message: str = ""
) -> Change:
    ended = replace(
        job,
        state=state,
        lease_until_ms=0,
        owner="",
        error_code=code,
        error_message=message,
        finished_ms=now_ms,
        expires_ms=now_ms + job.ttl_ms,
    )
    return Change(job=ended, result=result, spawn=(_webhook(ended, now_ms),) if job.webhook else ())


def _webhook(job: Job, now_ms: int) -> NewJob:
    """The webhook job for the end of `job`. Its id is derived, so that there is only one."""
    noun = {"response": "response", "batch": "batch"}.get(job.kind, "job")
    verb = {"succeeded": "completed", "dead": "failed"}.get(job.state, job.state)
    if job.error_code == "batch_expired":
        verb = "expired"
    if (noun, verb) == ("response", "expired"):  # the status as clients know it
        verb = "failed"
    event = Event(id=f"evt_{job.job_id}", created_at=now_ms // 1000, type=f"{noun}.{verb}", data={"id": job.job_id})
    return NewJob(
        job_id=f"hook_{job.job_id}",
        kind=WEBHOOK_KIND,
        tenant=job.tenant,
        principal=job.principal,
        models=job.models,
        payload=msgspec.json.encode(WebhookCall(url=job.webhook, event=event)),
        max_attempts=WEBHOOK_ATTEMPTS,
        ttl_ms=WEBHOOK_TTL_MS,
    )


FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 600.0


def backoff_s(attempts: int, jitter: float) -> float:
    """Return the pause after `attempts` attempts: between half of the full pause and all of it.

    Args:
        attempts: Attempts so far, at least 1.
        jitter: A random number in [0, 1).
    """
    full_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (min(attempts, 32) - 1))
    return full_s * (0.5 + 0.5 * jitter)
