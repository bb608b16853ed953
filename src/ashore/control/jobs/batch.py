"""The handler of a batch: validates the file, submits each line as a job, and collects the results.

A batch is a job whose children are its lines. Each step is recorded before the next starts, so a worker that takes over
after a crash resumes where it stopped. A line is never submitted twice, because its id follows from its position.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Final

import msgspec

from ashore.data.jobs import PIECE_BYTES, BatchTokens, Call, JobQueue, Reply, SqlFiles, add_tokens
from ashore.data.jobs.batchlines import BatchError, check_line, check_lines, requests_of, split_lines
from ashore.data.jobs.batchorder import BatchOrder, BatchProgress, Phase, expires_of, progress_of
from ashore.data.jobs.model import Again, Cancelled, Done, Failed, Job, JobBody, Lease, NewJob, Outcome, StoredFile

LINE_KIND: Final = "line"
LINES_AT_ONCE: Final = 500
GATHERED_AT_ONCE: Final = 50
GIVE_WAY_S: Final = 0.02
"""Pause between two pages of lines, submitted or cancelled. SQLite has one writer, and no queue for its lock: without a
pause, a batch would keep all others from writing until it is done."""
LOOK_AGAIN_S: Final = 30.0
"""The last line wakes its batch; this is for the case that none does."""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Why(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str


class _LineOut(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    custom_id: str
    response: _Answer | None
    error: _Why | None


_order = msgspec.json.Decoder(BatchOrder)
_call = msgspec.json.Decoder(Call)
_reply = msgspec.json.Decoder(Reply)
_encode = msgspec.json.Encoder().encode


class LeaseLost(Exception):
    """Another worker has the batch; this one must stop."""


@dataclass(frozen=True, slots=True)
class BatchHandler:
    """A `Handler` of batches. Holds one page of lines or results in memory, whatever the size of the batch."""

    queue: JobQueue
    files: SqlFiles
    _: KW_ONLY
    result_ttl_ms: int
    max_attempts: int
    rest: Callable[[float], None] = time.sleep

    async def run(self, lease: Lease) -> Outcome:
        try:
            return await asyncio.to_thread(self._advance, lease)
        except LeaseLost:
            return Again(after_s=0.0, counted=False, code="lease_lost", message="another worker runs this batch")

    def _advance(self, lease: Lease) -> Outcome:
        order, progress = _order.decode(lease.payload), progress_of(lease.job)
        if lease.job.cancel_requested:
            while self.queue.cancel_children(lease.job.job_id):
                self._renew(lease, progress)
                self.rest(GIVE_WAY_S)
        elif progress.phase == "validating":
            progress = self._validate(lease, order, progress)
            if progress.errors:
                return Failed(code="invalid_batch", message=progress.errors[0].message)
        if not lease.job.cancel_requested:
            progress = self._give_out(lease, order, progress)
        job = self.queue.get(lease.job.job_id, tenant=None)
        if job.children_total > job.children_succeeded + job.children_failed:
            return Again(after_s=LOOK_AGAIN_S, counted=False)
        return self._gather(lease, order, progress)

    def _validate(self, lease: Lease, order: BatchOrder, progress: BatchProgress) -> BatchProgress:
        total, errors = check_lines(split_lines(self._pieces(order.input_file_id)), order.endpoint)
        if self.files.get(order.input_file_id) is None:  # what was read of it may be incomplete
            errors = [_input_gone(order, given_out=0)]
        phase: Phase = "failed" if errors else "in_progress"
        return self._report(
            lease,
            msgspec.structs.replace(
                progress, phase=phase, total=total, errors=errors, in_progress_ms=self.queue.now_ms()
            ),
        )

    def _give_out(self, lease: Lease, order: BatchOrder, progress: BatchProgress) -> BatchProgress:
        """Create jobs for the lines that have none yet; each page is one transaction with its progress."""
        if progress.given_out >= progress.total:
            return progress
        lines = requests_of(split_lines(self._pieces(order.input_file_id)))
        left = itertools.islice(lines, progress.given_out, None)
        while page := list(itertools.islice(left, LINES_AT_ONCE)):
            children = [
                self._line_job(lease.job, order, progress.given_out + at, raw) for at, (_, raw) in enumerate(page)
            ]
            progress = msgspec.structs.replace(progress, given_out=progress.given_out + len(page))
            if not self.queue.adopt(lease, children, _encode(progress).decode()):
                raise LeaseLost
            self.rest(GIVE_WAY_S)
        if progress.given_out < progress.total:
            return msgspec.structs.replace(progress, errors=[_input_gone(order, progress.given_out)])
        return progress

    def _line_job(self, batch: Job, order: BatchOrder, at: int, raw: bytes) -> NewJob:
        line = check_line(raw, order.endpoint)
        return NewJob(
            job_id=f"{batch.job_id}.{at:06}",
            kind=LINE_KIND,
            tenant=batch.tenant,
            principal=batch.principal,
            models=batch.models,
            payload=_encode(Call(path=order.endpoint, body=line.body, urgency="batch", custom_id=line.custom_id)),
            priority=batch.priority,
            deadline_ms=expires_of(batch, order),
            max_attempts=self.max_attempts,
            ttl_ms=self.result_ttl_ms,
            parent_id=batch.job_id,
            item=at,
        )

    def _gather(self, lease: Lease, order: BatchOrder, progress: BatchProgress) -> Outcome:
        """Write the two files and end the batch. After a crash this restarts from the beginning: the names stay the
        same.
        """
        now_ms = self.queue.now_ms()
        if progress.finalizing_ms is None:
            progress = self._report(lease, msgspec.structs.replace(progress, phase="finalizing", finalizing_ms=now_ms))
        expired, usage = False, BatchTokens()
        names: dict[bool, str | None] = {True: None, False: None}
        for good in (True, False):
            ttl_ms = order.output_ttl_ms or self.result_ttl_ms
            sink = _Sink(self.files, lease.job, "output" if good else "error", now_ms, ttl_ms)
            for job, body in self._ended(lease, progress):
                expired = expired or job.state == "expired"
                if (job.state == "succeeded") == good and job.state != "cancelled":
                    sink.add(line_out(job, body))
                if good and job.state == "succeeded" and body.result is not None:
                    usage = add_tokens(usage, _reply.decode(body.result).body)
            names[good] = sink.close()
        cancelled = lease.job.cancel_requested
        lacking: Phase = "failed" if progress.errors else "completed"
        phase: Phase = "cancelled" if cancelled else "expired" if expired else lacking
        self._report(
            lease,
            msgspec.structs.replace(
                progress, phase=phase, output_file_id=names[True], error_file_id=names[False], usage=usage
            ),
        )
        if cancelled:
            return Cancelled(result=b"{}")
        if expired:
            return Failed(
                code="batch_expired",
                message=f"the batch was not complete within {order.completion_window}",
                result=b"{}",
            )
        if progress.errors:
            return Failed(code=progress.errors[0].code, message=progress.errors[0].message, result=b"{}")
        return Done(result=b"{}")

    def _ended(self, lease: Lease, progress: BatchProgress) -> Iterator[tuple[Job, JobBody]]:
        after = -1
        while page := self.queue.store.bodies(lease.job.job_id, after_item=after, limit=GATHERED_AT_ONCE):
            yield from page
            after = page[-1][0].item
            self._renew(lease, progress)

    def _pieces(self, file_id: str) -> Iterator[bytes]:
        for number in itertools.count():
            piece = self.files.piece(file_id, number)
            if piece is None:
                return
            yield piece

    def _report(self, lease: Lease, progress: BatchProgress) -> BatchProgress:
        if not self.queue.report(lease, _encode(progress).decode()):
            raise LeaseLost
        return progress

    def _renew(self, lease: Lease, progress: BatchProgress) -> None:
        """Stop at once if the lease is lost; the runner renews it."""
        if not self.queue.holding([lease]):
            raise LeaseLost


class _Sink:
    """Writes lines into a file piece by piece. A file without lines is not created."""

    def __init__(self, files: SqlFiles, batch: Job, name: str, now_ms: int, ttl_ms: int) -> None:
        digest = hashlib.sha256(f"{batch.job_id} {name}".encode()).hexdigest()
        self._file = StoredFile(
            file_id=f"file-{digest[:32]}",
            tenant=batch.tenant,
            account=batch.account,
            models=batch.models,
            filename=f"{batch.job_id}_{name}.jsonl",
            purpose="batch_output",
            num_bytes=0,
            created_ms=now_ms,
            expires_ms=now_ms + ttl_ms,
            complete=False,
        )
        self._files = files
        self._pending = bytearray()
        self._number = 0
        self._num_bytes = 0
        self._begun = False

    def add(self, line: bytes) -> None:
        if not self._begun:
            self._files.create(self._file)
            self._begun = True
        self._pending += line + b"\n"
        while len(self._pending) >= PIECE_BYTES:
            self._flush()

    def close(self) -> str | None:
        """Return the id of the file; None if there is none."""
        if not self._begun:
            return None
        while self._pending:
            self._flush()
        self._files.complete(replace(self._file, num_bytes=self._num_bytes))
        return self._file.file_id

    def _flush(self) -> None:
        piece = bytes(self._pending[:PIECE_BYTES])
        del self._pending[:PIECE_BYTES]
        self._files.append(self._file.file_id, self._number, piece)
        self._number += 1
        self._num_bytes += len(piece)


def _input_gone(order: BatchOrder, given_out: int) -> BatchError:
    message = f"{order.input_file_id} was deleted while the batch read it; {given_out:,} of its lines were run"
    return BatchError(code="input_file_gone", message=message, param="input_file_id")


def line_out(job: Job, body: JobBody) -> bytes:
    """Return one line of an output or error file."""
    answer, why = None, None
    if body.result is not None:
        reply = _reply.decode(body.result)
        answer = _Answer(status_code=reply.status, request_id=reply.request_id, body=reply.body)
    elif job.state == "expired":
        why = _Why(code="batch_expired", message="the completion window of the batch ended before this request ran")
    else:
        why = _Why(code=job.error_code or job.state, message=job.error_message)
    out = _LineOut(
        id=f"batch_req_{job.job_id.removeprefix('batch_').replace('.', '_')}",
        custom_id=_call.decode(body.payload).custom_id,
        response=answer,
        error=why,
    )
    return _encode(out)
