"""A batch as a job: what the client asked for, and how far it is."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ashore.data.jobs.batchlines import BatchError
from ashore.data.jobs.model import Job
from ashore.kit.decode import UNDECODABLE

KIND: Final = "batch"

Phase = Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]


class BatchTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of many answers."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class _Details(msgspec.Struct):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Usage(msgspec.Struct):
    """Token usage in answers: one form for chat, completions and embeddings, another for responses."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Used(msgspec.Struct):
    usage: _Usage | None = None


_used = msgspec.json.Decoder(_Used)


def add_tokens(sum_: BatchTokens, body: msgspec.Raw) -> BatchTokens:
    """Return `sum_` plus the usage of an answer of any route; an answer without usage adds nothing."""
    try:
        usage = _used.decode(body).usage
    except UNDECODABLE:
        return sum_
    if usage is None:
        return sum_
    read, made = usage.prompt_tokens_details or usage.input_tokens_details, usage.completion_tokens_details
    made = made or usage.output_tokens_details
    return BatchTokens(
        input_tokens=sum_.input_tokens + usage.prompt_tokens + usage.input_tokens,
        cached_tokens=sum_.cached_tokens + (read.cached_tokens if read else 0),
        output_tokens=sum_.output_tokens + usage.completion_tokens + usage.output_tokens,
        reasoning_tokens=sum_.reasoning_tokens + (made.reasoning_tokens if made else 0),
    )


class BatchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Payload: what the client asked for."""

    endpoint: str
    input_file_id: str
    completion_window: str
    window_ms: int = 0
    """How long after the batch was made its lines may run."""
    expires_ms: int = 0
    """Set: its end, as batches of earlier versions have it. The same order made twice would differ in it."""
    metadata: dict[str, str] | None = None
    output_ttl_ms: int | None = None
    """How long the two files of answers are kept; None: as long as results are."""


class BatchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a batch is."""

    phase: Phase = "validating"
    total: int = 0
    given_out: int = 0
    in_progress_ms: int | None = None
    finalizing_ms: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[BatchError] = []
    usage: BatchTokens | None = None
    """Of all answers; None until they are gathered."""


_progress = msgspec.json.Decoder(BatchProgress)


def progress_of(job: Job) -> BatchProgress:
    """Return the progress of a batch."""
    return _progress.decode(job.progress) if job.progress else BatchProgress()


def expires_of(job: Job, order: BatchOrder) -> int:
    """Return when the window of a batch ends, in milliseconds since the epoch."""
    return order.expires_ms or job.created_ms + order.window_ms
