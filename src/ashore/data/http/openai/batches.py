"""`/v1/batches`: many requests in one file, run when there is room."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ashore.core.errors import InvalidRequest
from ashore.data.authority import STORED_REMOVE, Principal
from ashore.data.http.desk import idempotency_key, webhook_of
from ashore.data.http.dialect import plain_body
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.openai.common import priority_of
from ashore.data.http.openai.files import LONGEST_LIFE_S, SHORTEST_LIFE_S, find_file
from ashore.data.http.openai.paging import ends_of
from ashore.data.http.openai.responses_types import InputDetails, Metadata, OutputDetails, ResponsesUsage
from ashore.data.http.stored import find_job, models_of, page_of_jobs
from ashore.data.jobs import (
    BATCH_KIND,
    ENDPOINTS,
    BatchOrder,
    BatchTokens,
    Job,
    JobQueue,
    NewJob,
    expires_of,
    new_id,
    progress_of,
)

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

BATCH_ATTEMPTS: Final = 50
"""A batch goes on where it stopped, so an attempt that a crash ended costs nothing."""
LONGEST_WINDOW_S: Final = 7 * 86_400
KINDS: Final = (BATCH_KIND,)

_WINDOW: Final = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_encode = msgspec.json.Encoder().encode
_order = msgspec.json.Decoder(BatchOrder)


class OutputExpiry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the result files expire, counted from their creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=SHORTEST_LIFE_S, le=LONGEST_LIFE_S)]


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None


class BatchErrorOut(msgspec.Struct, frozen=True, kw_only=True):
    """An error in one line of the input."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchErrors(msgspec.Struct, frozen=True, kw_only=True):
    """The errors in the input."""

    object: Literal["list"] = "list"
    data: list[BatchErrorOut]


class BatchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Number of requests of a batch, by state."""

    total: int
    completed: int
    failed: int


class BatchOut(msgspec.Struct, frozen=True, kw_only=True):
    """One batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    usage: ResponsesUsage | None
    """Once the answers are gathered."""
    metadata: dict[str, str] | None


class BatchList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/batches`."""

    object: Literal["list"] = "list"
    data: list[BatchOut]
    has_more: bool
    first_id: str | None
    last_id: str | None


_decoder = msgspec.json.Decoder(BatchRequest)


async def create(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/batches`."""
    desk = app.desk
    request = await plain_body(app, exchange, principal, _decoder)
    if request.endpoint not in ENDPOINTS:
        raise InvalidRequest(
            f"endpoint is {request.endpoint[:80]!r}; expected one of {', '.join(ENDPOINTS)}", param="endpoint"
        )
    window_s = _window_s(request.completion_window)
    file = await find_file(app, exchange, request.input_file_id, principal)
    if file.purpose != "batch":
        raise InvalidRequest(
            f"{file.file_id} was uploaded for {file.purpose!r}",
            hint="upload the file with purpose=batch",
            param="input_file_id",
        )
    order = BatchOrder(
        endpoint=request.endpoint,
        input_file_id=request.input_file_id,
        completion_window=request.completion_window,
        window_ms=window_s * 1000,
        metadata=request.metadata,
        output_ttl_ms=request.output_expires_after.seconds * 1000 if request.output_expires_after else None,
    )
    job = NewJob(
        job_id=new_id("batch_"),
        kind=BATCH_KIND,
        tenant=principal.tenant,
        principal=principal.acting_name,
        models=models_of(principal),
        payload=_encode(order),
        priority=priority_of(exchange),
        max_attempts=BATCH_ATTEMPTS,
        ttl_ms=desk.limits.result_ttl_ms,
        cancel_mode="by_handler",
        idempotency_key=idempotency_key(exchange),
        webhook=webhook_of(desk, exchange),
    )
    kept = await desk.submit(job)
    await _answer(app, exchange, kept)


async def retrieve(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/batches/{id}`."""
    await _answer(app, exchange, await find_job(app, exchange, exchange.argument, principal, kinds=KINDS))


async def cancel(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/batches/{id}/cancel`: finished requests are kept; the rest is not run."""
    job = await find_job(app, exchange, exchange.argument, principal, kinds=KINDS, action=STORED_REMOVE)
    changed = await app.desk.call(lambda: app.desk.queue.cancel(job.job_id))
    await _answer(app, exchange, changed or job)


async def list_batches(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/batches`."""
    queue = app.desk.queue

    def write(jobs: list[Job], has_more: bool) -> bytes:
        data = [_out(queue, job) for job in jobs]
        return _encode(BatchList(data=data, has_more=has_more, **ends_of([one.id for one in data])))

    await exchange.respond(200, [JSON], await page_of_jobs(app, exchange, principal, write, kinds=KINDS))


async def _answer(app: HttpApp, exchange: Exchange, job: Job) -> None:
    queue = app.desk.queue
    await exchange.respond_json(await app.desk.call(lambda: _out(queue, job)))


def _out(queue: JobQueue, job: Job) -> BatchOut:
    return batch_out(job, _order.decode(queue.body(job.job_id).payload))


def batch_out(job: Job, order: BatchOrder) -> BatchOut:
    """Return a batch in OpenAI's form."""
    progress, status = progress_of(job), status_of(job)
    ended: dict[str, Any] = {f"{name}_at": None for name in ("completed", "failed", "expired", "cancelled")}
    if job.finished_ms is not None:
        ended[f"{status}_at"] = job.finished_ms // 1000
    errors = [BatchErrorOut(code=e.code, message=e.message, line=e.line, param=e.param) for e in progress.errors]
    if not errors and status == "failed":
        errors = [BatchErrorOut(code=job.error_code, message=job.error_message, line=None, param=None)]
    return BatchOut(
        id=job.job_id,
        endpoint=order.endpoint,
        errors=BatchErrors(data=errors) if errors else None,
        input_file_id=order.input_file_id,
        completion_window=order.completion_window,
        status=status,
        output_file_id=progress.output_file_id,
        error_file_id=progress.error_file_id,
        created_at=job.created_ms // 1000,
        in_progress_at=_seconds(progress.in_progress_ms),
        expires_at=expires_of(job, order) // 1000,
        finalizing_at=_seconds(progress.finalizing_ms),
        cancelling_at=_seconds(job.finished_ms) if status == "cancelled" else None,
        request_counts=BatchCounts(total=progress.total, completed=job.children_succeeded, failed=job.children_failed),
        usage=usage_out(progress.usage),
        metadata=order.metadata,
        **ended,
    )


def usage_out(tokens: BatchTokens | None) -> ResponsesUsage | None:
    """Return the usage of a batch in OpenAI's form."""
    if tokens is None:
        return None
    return ResponsesUsage(
        input_tokens=tokens.input_tokens,
        input_tokens_details=InputDetails(tokens.cached_tokens),
        output_tokens=tokens.output_tokens,
        output_tokens_details=OutputDetails(tokens.reasoning_tokens),
        total_tokens=tokens.input_tokens + tokens.output_tokens,
    )


def status_of(job: Job) -> str:
    """Return OpenAI's word for the state of a batch."""
    if job.final:
        expired = job.error_code == "batch_expired"
        return "expired" if expired else {"succeeded": "completed", "cancelled": "cancelled"}.get(job.state, "failed")
    phase = progress_of(job).phase  # that of the end is there before the job has ended
    early = phase in ("validating", "in_progress")
    return "cancelling" if job.cancel_requested else phase if early else "finalizing"


def _window_s(text: str) -> int:
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_WINDOW_S:
        raise InvalidRequest(
            f"completion_window is {text[:20]!r}; expected a duration of at most 7 days",
            hint="write 24h, or another number with s, m, h or d",
            param="completion_window",
        )
    return seconds


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
