"""A batch as a job: what the client asked for, and how far it is."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ashore.data.jobs.batchlines import BatchError
from ashore.data.jobs.batchtokens import BatchTokens
from ashore.data.jobs.model import Job

KIND: Final = "batch"

Phase = Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]


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
