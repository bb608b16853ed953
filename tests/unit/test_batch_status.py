"""The state of a batch in OpenAI's words."""

from __future__ import annotations

import msgspec
import pytest

from ashore.data.http.openai.batches import batch_out, status_of
from ashore.data.jobs import BatchOrder, Job


def job(phase: str, **more: object) -> Job:
    given: dict[str, object] = {
        "job_id": "batch_1", "kind": "batch", "tenant": "default", "principal": "ann", "account": "ann",
        "state": "running", "created_ms": 1_000, "not_before_ms": 1_000,
        "progress": msgspec.json.encode({"phase": phase}).decode(),
    }  # fmt: skip
    return Job(**{**given, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", ["completed", "failed", "expired", "cancelled"])
def test_an_end_is_said_once_it_has_its_time(phase: str) -> None:
    assert status_of(job(phase)) == "finalizing"
    code = "batch_expired" if phase == "expired" else ""
    state = {"completed": "succeeded", "failed": "dead", "expired": "dead"}.get(phase, phase)
    ended = job(phase, state=state, error_code=code, finished_ms=5_000)
    order = BatchOrder(endpoint="/v1/chat/completions", input_file_id="file_1", completion_window="3s")
    assert status_of(ended) == phase
    assert getattr(batch_out(ended, order), f"{phase}_at") == 5


def test_a_batch_that_runs_says_how_far_it_is() -> None:
    assert [status_of(job(phase)) for phase in ("validating", "in_progress")] == ["validating", "in_progress"]
    assert status_of(job("in_progress", cancel_requested=True)) == "cancelling"
