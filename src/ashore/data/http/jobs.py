"""`/v1/jobs`: deferred requests and everything else in the job queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ashore.data.authority import STORED_REMOVE, Principal
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.stored import find_job, page_of_jobs, read_out
from ashore.data.jobs import Job, JobState, Reply
from ashore.kit.copied import copied

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

_encode = msgspec.json.Encoder().encode
_reply = msgspec.json.Decoder(Reply)


class JobErrorOut(msgspec.Struct, frozen=True, kw_only=True):
    """The error that explains the state of a job."""

    code: str
    message: str


class JobOut(msgspec.Struct, frozen=True, kw_only=True):
    """One job."""

    id: str
    kind: str
    status: JobState
    priority: int
    attempts: int
    max_attempts: int
    takeovers: int
    """Attempts that were lost with the process they ran on. They do not count as attempts."""
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    progress: dict[str, Any] | None
    children: dict[str, int] | None
    error: JobErrorOut | None
    response: Reply | None = None
    """Status and body of the response of a finished job that is one request. Omitted in lists."""


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/jobs`."""

    items: list[JobOut]
    has_more: bool


async def list_jobs(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/jobs`: the caller's jobs, and others that a right permits, without the lines of batches."""

    def write(jobs: list[Job], has_more: bool) -> bytes:
        return _encode(JobList(items=[job_out(job) for job in jobs], has_more=has_more))

    await exchange.respond(200, [JSON], await page_of_jobs(app, exchange, principal, write))


async def retrieve(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/jobs/{id}`."""
    job = await find_job(app, exchange, exchange.argument, principal)
    queue = app.desk.queue
    length = await app.desk.call(lambda: queue.store.body_length(job.job_id))

    def work() -> bytes:
        return _encode(job_out(job, queue.body(job.job_id).result))

    await exchange.respond(200, [JSON], await read_out(app, exchange, principal, length, work))


async def cancel(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/jobs/{id}/cancel`."""
    job = await find_job(app, exchange, exchange.argument, principal, action=STORED_REMOVE)
    changed = await app.desk.call(lambda: app.desk.queue.cancel(job.job_id))
    await exchange.respond_json(job_out(changed or job))


def job_out(job: Job, result: bytes | None = None) -> JobOut:
    """Return a job in the form of the API."""
    answered = result is not None and job.kind in ("call", "response", "line")
    children = None
    if job.children_total:
        children = {
            "total": job.children_total,
            "succeeded": job.children_succeeded,
            "failed": job.children_failed,
        }
    return copied(
        JobOut,
        job,
        id=job.job_id,
        status=job.state,
        created_at=job.created_ms / 1000,
        started_at=None if job.started_ms is None else job.started_ms / 1000,
        finished_at=None if job.finished_ms is None else job.finished_ms / 1000,
        expires_at=None if job.expires_ms is None else job.expires_ms / 1000,
        progress=msgspec.json.decode(job.progress) if job.progress else None,
        children=children,
        error=JobErrorOut(code=job.error_code, message=job.error_message) if job.error_code else None,
        response=_reply.decode(result) if answered and result is not None else None,
    )
