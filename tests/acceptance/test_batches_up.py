"""Batches and background answers of the official client on slow models: what expires, what goes first, what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import BadRequestError, ConflictError, OpenAI
from openai_jobs import begin_batch, ended_batch, lines_of, rows_of
from served import Served, start_served
from waiting import eventually

CONFIG = """
[jobs]
concurrency = 1
[[model]]
name = "fake:echo?tok_per_s=100"
alias = "slow"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("batches-home")
    one = start_served(home, [], store=None, port=free_port(), grpc_port=free_port(), config=CONFIG)
    yield one
    one.stop()


@pytest.fixture
def client(server: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as one:
        yield one


def ask(text: str, tokens: int = 20) -> dict[str, object]:
    return {"model": "slow", "messages": [{"role": "user", "content": text}], "max_tokens": tokens}


def test_a_batch_ends_with_its_window_and_keeps_what_is_done(client: OpenAI) -> None:
    batch = begin_batch(client, lines_of(ask("quick"), ask("x" * 900, 900), ask("never")), completion_window="3s")
    ended = ended_batch(client, batch.id)
    assert (ended.status, ended.expired_at is not None, ended.completed_at) == ("expired", True, None)
    assert ended.request_counts.model_dump() == {"total": 3, "completed": 1, "failed": 2}
    assert [row["custom_id"] for row in rows_of(client, ended.output_file_id)] == ["q0"]
    missed = rows_of(client, ended.error_file_id)
    assert [(row["custom_id"], row["response"], row["error"]["code"]) for row in missed] == [
        ("q1", None, "batch_expired"), ("q2", None, "batch_expired"),
    ]  # fmt: skip


def test_a_cancelled_batch_keeps_what_is_done(client: OpenAI) -> None:
    batch = begin_batch(client, lines_of(ask("quick"), ask("x" * 900, 900), ask("never")))
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed == 1)  # type: ignore[union-attr]
    assert client.batches.cancel(batch.id).status == "cancelling"
    ended = ended_batch(client, batch.id)
    assert (ended.status, ended.cancelled_at is not None, ended.error_file_id) == ("cancelled", True, None)
    assert [row["custom_id"] for row in rows_of(client, ended.output_file_id)] == ["q0"]


def test_the_files_of_answers_end_when_the_batch_says_so(client: OpenAI) -> None:
    after = {"anchor": "created_at", "seconds": 7200}
    batch = ended_batch(client, begin_batch(client, lines_of(ask("a"), ask("b")), output_expires_after=after).id)
    file = client.files.retrieve(batch.output_file_id)
    assert file.expires_at == file.created_at + 7200
    answers = [row["response"]["body"]["usage"] for row in rows_of(client, batch.output_file_id)]
    assert batch.usage.total_tokens == sum(one["total_tokens"] for one in answers) > 0
    assert batch.usage.input_tokens == sum(one["prompt_tokens"] for one in answers)
    for wrong in ({"anchor": "created_at", "seconds": 1}, {"anchor": "now", "seconds": 7200}):
        with pytest.raises(BadRequestError, match="output_expires_after"):
            begin_batch(client, lines_of(ask("a")), output_expires_after=wrong)


@pytest.mark.parametrize("after", [{"anchor": "now", "seconds": 7200}, {"anchor": "created_at"}])
def test_a_file_whose_end_is_said_wrongly_is_refused(client: OpenAI, after: dict[str, object]) -> None:
    with pytest.raises(BadRequestError, match="expires_after"):
        client.files.create(file=("a.bin", b"x"), purpose="user_data", expires_after=after)  # type: ignore[arg-type]


def test_the_same_idempotency_key_is_the_same_batch(client: OpenAI) -> None:
    file = client.files.create(file=("in.jsonl", lines_of(ask("once"))), purpose="batch").id

    def begin(window: str) -> Any:
        return client.batches.create(
            input_file_id=file, endpoint="/v1/chat/completions", completion_window=window,  # type: ignore[arg-type]
            extra_headers={"idempotency-key": "once"},
        )  # fmt: skip

    first = begin("24h")
    time.sleep(0.01)
    assert begin("24h").id == first.id and first.expires_at == first.created_at + 86_400
    with pytest.raises(ConflictError, match=first.id):
        begin("23h")


def test_lists_are_read_page_by_page(client: OpenAI) -> None:
    batches = [begin_batch(client, lines_of(ask(f"{n}"))).id for n in range(3)]
    pages = client.batches.list(limit=2).iter_pages()
    seen = [one.id for page in pages for one in page.data]
    assert seen[:3] == batches[::-1] and len(set(seen)) == len(seen)
    files = [client.files.create(file=("a.bin", b"x"), purpose="user_data").id for _ in range(3)]
    assert [one.id for one in client.files.list(purpose="user_data", order="asc", limit=1)] == files
    assert [one.id for one in client.files.list(purpose="user_data", limit=2)] == files[::-1]


def test_what_is_urgent_goes_first_and_what_nobody_wants_any_more_never(client: OpenAI) -> None:
    def begin(text: str, tokens: int, **headers: str) -> str:
        named = {f"x-ashore-{name}": value for name, value in headers.items()}
        told = client.responses.create(
            model="slow", input=text, max_output_tokens=tokens, background=True, extra_headers=named
        )
        return told.id

    running = begin("x" * 200, 200)
    eventually(lambda: client.responses.retrieve(running).status == "in_progress")
    calm = begin("calm" * 10, 40)
    late = begin("late" * 10, 40, **{"deadline-ms": "1"})
    urgent = begin("urgent" * 10, 40, priority="7")
    eventually(lambda: client.responses.retrieve(calm).status == "in_progress")
    assert client.responses.retrieve(urgent).status == "incomplete", "it was cut by its limit, and before the calm one"
    passed = eventually(lambda: (told := client.responses.retrieve(late)).status == "failed" and told)
    assert passed.error is not None and passed.error.code == "deadline_exceeded"
    job = client.get(f"/jobs/{late}", cast_to=dict)
    assert (job["status"], job["attempts"]) == ("expired", 0)  # type: ignore[index]
    assert client.get(f"/jobs/{urgent}", cast_to=dict)["priority"] == 7  # type: ignore[index]
