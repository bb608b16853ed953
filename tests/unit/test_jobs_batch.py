"""The handler of batches over the twins: a file that goes while it is read, and what the answers cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import msgspec
import pytest

from ashore.control.jobs import BatchHandler
from ashore.control.jobs.batch import LINES_AT_ONCE
from ashore.core.clock import ManualClock
from ashore.data.jobs import (
    BATCH_KIND,
    Again,
    BatchOrder,
    BatchTokens,
    Call,
    Done,
    Failed,
    Job,
    JobQueue,
    NewJob,
    Outcome,
    Reply,
    SqlFiles,
    SqlJobs,
    StoredFile,
    add_tokens,
    progress_of,
)
from ashore.data.jobs.rules import Rule
from ashore.kit.state import open_scratch

LINES = LINES_AT_ONCE + 50


class LeakyFiles(SqlFiles):
    """Forgets the input once it was read so often."""

    def __init__(self, reads: int) -> None:
        super().__init__(open_scratch())
        self.reads = reads

    def piece(self, file_id: str, number: int) -> bytes | None:
        if file_id == "file-in":
            self.reads -= 1
            if self.reads < 0:
                self.delete(file_id)
        return super().piece(file_id, number)


def store(files: SqlFiles, lines: int) -> None:
    file = StoredFile(
        file_id="file-in", tenant="t", filename="in", purpose="batch", num_bytes=1, created_ms=0, expires_ms=None,
        complete=False, account="p",
    )  # fmt: skip
    files.create(file)
    for number in range(lines):  # a piece for each line, so that a part of them can be read
        line = {"custom_id": f"q{number}", "method": "POST", "url": "/v1/completions", "body": {"model": "m"}}
        files.append("file-in", number, json.dumps(line).encode() + b"\n")
    files.complete(file)


def run_batch(
    files: SqlFiles, *, store: SqlJobs | None = None, rest: Callable[[float], None] = lambda seconds: None
) -> tuple[Outcome, JobQueue]:
    """Run a batch to its end; each line that was given out is answered."""
    queue = JobQueue(store or SqlJobs(open_scratch()), ManualClock(), jitter=lambda: 0.0)
    order = BatchOrder(
        endpoint="/v1/completions", input_file_id="file-in", completion_window="1d", window_ms=86_400_000
    )
    payload = msgspec.json.encode(order)
    queue.submit(NewJob(job_id="batch_1", kind=BATCH_KIND, tenant="t", principal="p", payload=payload))
    handler = BatchHandler(queue, files, result_ttl_ms=1000, max_attempts=1, rest=rest)
    body = msgspec.Raw(b'{"usage": {"prompt_tokens": 3, "completion_tokens": 2}}')
    for _ in range(9):
        [lease] = queue.lease(kinds=(BATCH_KIND,), limit=1, owner="w")
        outcome = asyncio.run(handler.run(lease))
        queue.settle(lease, outcome)
        if not isinstance(outcome, Again):
            return outcome, queue
        for line in queue.lease(kinds=("line",), limit=3 * LINES, owner="w"):
            assert msgspec.json.decode(line.payload, type=Call).path == "/v1/completions"
            reply = Reply(status=200, request_id="r", body=body)
            queue.settle(line, Done(result=msgspec.json.encode(reply)))
    raise AssertionError("the batch does not end")


def test_a_batch_whose_file_goes_before_it_is_read_says_so() -> None:
    files = LeakyFiles(reads=3)
    store(files, LINES)
    outcome, queue = run_batch(files)
    assert isinstance(outcome, Failed) and outcome.code == "invalid_batch" and "file-in" in outcome.message
    [error] = progress_of(queue.get("batch_1", tenant="t")).errors
    assert (error.code, error.param) == ("input_file_gone", "input_file_id")


def test_lines_that_went_with_their_file_are_no_completed_batch() -> None:
    files = LeakyFiles(reads=LINES + 1 + LINES_AT_ONCE + 1)  # read whole for the check, then a page
    store(files, LINES)
    outcome, queue = run_batch(files)
    assert isinstance(outcome, Failed) and outcome.code == "input_file_gone"
    job = queue.get("batch_1", tenant="t")
    progress = progress_of(job)
    assert job.state == "failed" and progress.phase == "failed" and progress.total == LINES
    assert 0 < progress.given_out < LINES and job.children_succeeded == progress.given_out
    assert progress.output_file_id is not None, "what was done is kept"
    assert str(progress.given_out) in progress.errors[0].message


def test_a_batch_writes_once_for_each_page_and_lets_others_write_in_between() -> None:
    written: list[int] = []
    rested: list[int] = []

    class CountingJobs(SqlJobs):
        def update(self, job_ids: Sequence[str], rule: Rule, now_ms: int) -> list[Job]:
            if "batch_1" not in job_ids:
                return super().update(job_ids, rule, now_ms)
            before = len(self.select(limit=99 * LINES, parent_id="batch_1"))
            changed = super().update(job_ids, rule, now_ms)
            if grown := len(self.select(limit=99 * LINES, parent_id="batch_1")) - before:
                written.append(grown)
            return changed

    files = SqlFiles(open_scratch())
    store(files, 3 * LINES_AT_ONCE)
    outcome, _ = run_batch(files, store=CountingJobs(open_scratch()), rest=lambda seconds: rested.append(len(written)))
    assert isinstance(outcome, Done)
    assert written == [LINES_AT_ONCE] * 3 and rested == [1, 2, 3]


def test_a_whole_batch_tells_what_its_answers_cost() -> None:
    files = SqlFiles(open_scratch())
    store(files, LINES)
    outcome, queue = run_batch(files)
    assert isinstance(outcome, Done)
    assert progress_of(queue.get("batch_1", tenant="t")).usage == BatchTokens(
        input_tokens=3 * LINES, output_tokens=2 * LINES
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"usage": {"prompt_tokens": 5, "total_tokens": 5}}', BatchTokens(input_tokens=5)),
        (
            b'{"usage": {"prompt_tokens": 5, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}, '
            b'"completion_tokens_details": {"reasoning_tokens": 3}}}',
            BatchTokens(input_tokens=5, output_tokens=4, cached_tokens=2, reasoning_tokens=3),
        ),
        (
            b'{"usage": {"input_tokens": 5, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 2}, '
            b'"output_tokens_details": {"reasoning_tokens": 3}}}',
            BatchTokens(input_tokens=5, output_tokens=4, cached_tokens=2, reasoning_tokens=3),
        ),
        (b'{"usage": null}', BatchTokens()),
        (b"[]", BatchTokens()),
    ],
)
def test_tokens_are_read_from_the_answers_of_every_route(body: bytes, expected: BatchTokens) -> None:
    assert add_tokens(BatchTokens(), msgspec.Raw(body)) == expected
