"""The official client's files, batches and responses, unchanged, against a running `ashore up`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI, PermissionDeniedError
from openai_jobs import lines_of
from served import Served, start_served
from waiting import eventually

ECHO = "fake:echo"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("jobs-home")
    one = start_served(home, [ECHO], store=None, port=free_port(), grpc_port=free_port())
    yield one
    one.stop()


@pytest.fixture
def client(server: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as one:
        yield one


def chat(text: str, **more: object) -> dict[str, object]:
    return {"model": ECHO, "messages": [{"role": "user", "content": text}], "max_tokens": 200, **more}


def test_a_file_goes_up_is_listed_read_and_deleted(client: OpenAI) -> None:
    data = bytes(range(256)) * 10_000  # longer than one piece, and every byte
    file = client.files.create(file=("data.bin", data), purpose="user_data")
    assert file.bytes == len(data) and file.filename == "data.bin" and file.purpose == "user_data"
    assert file.id in [one.id for one in client.files.list(purpose="user_data")]
    assert client.files.create(file=("a.txt", b"x"), purpose="assistants").purpose == "assistants"
    assert file.id not in [one.id for one in client.files.list(purpose="batch")]
    assert client.files.retrieve(file.id).bytes == len(data)
    read = client.files.content(file.id).read()
    assert hashlib.sha256(read).digest() == hashlib.sha256(data).digest()
    assert client.files.delete(file.id).deleted
    with pytest.raises(NotFoundError):
        client.files.content(file.id)
    with pytest.raises(BadRequestError, match="purpose"):
        client.files.create(file=b"x", purpose="vision")


def test_a_batch_answers_every_line_and_tells_which_failed(client: OpenAI) -> None:
    lines = lines_of(chat("one"), chat("two", temperature=9), chat("three"))
    file = client.files.create(file=("in.jsonl", lines), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}
    )
    assert batch.status == "validating" and batch.metadata == {"k": "v"}
    done = eventually(lambda: (b := client.batches.retrieve(batch.id)).status == "completed" and b)
    assert done.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}  # type: ignore[attr-defined]
    out = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]  # type: ignore[attr-defined]
    assert [line["custom_id"] for line in out] == ["q0", "q2"]
    assert all(line["error"] is None and line["response"]["status_code"] == 200 for line in out)
    assert "one" in out[0]["response"]["body"]["choices"][0]["message"]["content"]
    [bad] = [json.loads(line) for line in client.files.content(done.error_file_id).text.splitlines()]  # type: ignore[attr-defined]
    assert bad["custom_id"] == "q1" and bad["response"]["status_code"] == 400
    assert bad["response"]["body"]["error"]["param"] == "temperature"
    assert batch.id in [one.id for one in client.batches.list(limit=100)]


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/completions", {"model": ECHO, "prompt": "hello", "max_tokens": 5}),
        ("/v1/responses", {"model": ECHO, "input": "hello", "max_output_tokens": 5}),
    ],
)
def test_a_batch_may_go_to_other_routes(client: OpenAI, url: str, body: dict[str, object]) -> None:
    file = client.files.create(file=("in.jsonl", lines_of(body, url=url)), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h")  # type: ignore[arg-type]
    done = eventually(lambda: (b := client.batches.retrieve(batch.id)).status == "completed" and b)
    assert done.request_counts.completed == 1  # type: ignore[attr-defined]


def test_a_batch_whose_lines_are_wrong_says_which(client: OpenAI) -> None:
    lines = lines_of(chat("x")) + b"not json\n" + lines_of(chat("again")) + lines_of(chat("y", stream=True))
    lines += b'{"custom_id":"z","method":"GET","url":"/v1/chat/completions","body":{"model":"m"}}\n'
    file = client.files.create(file=("in.jsonl", lines), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    failed = eventually(lambda: (b := client.batches.retrieve(batch.id)).status == "failed" and b)
    errors = {(e.line, e.code) for e in failed.errors.data}  # type: ignore[attr-defined]
    assert errors == {
        (2, "invalid_json_line"), (3, "duplicate_custom_id"), (4, "invalid_body"), (5, "invalid_method"),
    }  # fmt: skip
    with pytest.raises(BadRequestError, match="completion_window"):
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="soon")  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        client.batches.create(input_file_id="file-x", endpoint="/v1/chat/completions", completion_window="24h")


def test_a_response_plain_streamed_and_followed(client: OpenAI) -> None:
    plain = client.responses.create(model=ECHO, input="hello there", instructions="Be brief.", store=True)
    assert plain.status == "completed" and "hello there" in plain.output_text
    assert plain.usage is not None and plain.usage.total_tokens > 0 and plain.instructions == "Be brief."
    assert client.responses.retrieve(plain.id).output_text == plain.output_text
    assert [item.type for item in client.responses.input_items.list(plain.id)] == ["message"]

    with client.responses.stream(model=ECHO, input="what next?", previous_response_id=plain.id) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "what next?"
    deltas = [kind for kind in kinds if kind == "response.output_text.delta"]
    assert deltas
    assert [kind for kind in kinds if kind != "response.output_text.delta"] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    with pytest.raises(NotFoundError):
        client.responses.retrieve(final.id)
    assert client.responses.delete(plain.id) is None
    with pytest.raises(NotFoundError):
        client.responses.create(model=ECHO, input="x", previous_response_id=plain.id)


def test_an_answer_cut_by_its_limit_is_incomplete(client: OpenAI) -> None:
    short = client.responses.create(model=ECHO, input="a rather long question", max_output_tokens=4)
    assert short.status == "incomplete" and short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens"


def test_fields_of_a_response_that_change_it_are_refused_and_others_named(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="prompt"):
        client.responses.create(model=ECHO, input="x", extra_body={"prompt": {"id": "p"}})
    coloured: Any = [{"role": "user", "content": "x", "colour": "red"}]
    taken = client.responses.with_raw_response.create(model=ECHO, input=coloured, background=True)
    assert taken.headers["x-ashore-ignored"] == "input[].colour"
    with pytest.raises(NotFoundError):
        client.responses.create(model="nobody", input="x", background=True)


def test_a_stored_response_is_read_with_what_the_client_may_ask(client: OpenAI) -> None:
    kept = client.responses.create(
        model=ECHO,
        input=[{"role": "user", "content": "one"}, {"role": "user", "content": "two"}],
        reasoning={"effort": "low"}, include=["reasoning.encrypted_content"], max_tool_calls=3, store=True,
        prompt_cache_retention="24h", prompt_cache_key="k", text={"verbosity": "low"},
    )  # fmt: skip
    assert kept.completed_at is not None and kept.completed_at >= kept.created_at
    assert client.responses.retrieve(kept.id, include=["message.output_text.logprobs"]).output_text == "two"
    with pytest.raises(BadRequestError, match="colour"):
        client.responses.retrieve(kept.id, extra_query={"colour": "red"})
    pages = client.responses.input_items.list(kept.id, limit=1, order="asc", include=["message.output_text.logprobs"])
    assert [item.content[0].text for item in pages] == ["one", "two"]  # type: ignore[union-attr]
    with pytest.raises(NotFoundError, match="no item"):
        client.responses.input_items.list(kept.id, after="nothing")


def test_a_streamed_response_is_stored_where_it_says_so(client: OpenAI) -> None:
    with client.responses.stream(model=ECHO, input="keep me", store=True) as stream:
        assert [event.type for event in stream][-1] == "response.completed"
        final = stream.get_final_response()
    kept = client.responses.retrieve(final.id)
    assert (kept.output_text, kept.status, kept.usage) == ("keep me", "completed", final.usage)
    after = client.responses.create(model=ECHO, input="and more", previous_response_id=final.id)
    assert after.previous_response_id == final.id


def test_tokens_of_a_response_are_counted_as_it_is_charged(client: OpenAI) -> None:
    first = client.responses.create(model=ECHO, input="hello there", instructions="Be brief.", store=True)
    asked = {"model": ECHO, "input": "and more", "previous_response_id": first.id}
    counted = client.responses.input_tokens.count(**asked)  # type: ignore[arg-type]
    answered = client.responses.create(**asked)  # type: ignore[call-overload]
    assert counted.object == "response.input_tokens" and counted.input_tokens == answered.usage.input_tokens == 8
    with pytest.raises(NotFoundError, match="stored response"):
        client.responses.input_tokens.count(model=ECHO, input="x", previous_response_id="resp_no")
    with pytest.raises(NotFoundError):
        client.responses.input_tokens.count(model="nobody", input="x")


def test_a_background_response_is_kept_and_can_be_followed(client: OpenAI) -> None:
    begun = client.responses.create(model=ECHO, input="think of it", background=True)
    assert begun.status == "queued" and begun.id.startswith("resp_")
    done = eventually(lambda: (r := client.responses.retrieve(begun.id)).status == "completed" and r)
    assert "think of it" in done.output_text and done.id == begun.id and done.background  # type: ignore[attr-defined]
    after = client.responses.create(model=ECHO, input="and more", previous_response_id=begun.id)
    assert after.output_text == "and more" and after.previous_response_id == begun.id


def test_what_precedes_a_response_is_bounded_in_bytes_also_where_the_model_sees_none_of_it(client: OpenAI) -> None:
    unseen = [
        {"type": "reasoning", "summary": ["s" * 1000] * 9000},
        {"role": "user", "content": "hi"},
    ]
    first = client.responses.create(model=ECHO, input=unseen, store=True)  # type: ignore[arg-type]
    client.responses.create(model=ECHO, input="more", previous_response_id=first.id)
    with pytest.raises(BadRequestError, match="conversation before this response") as caught:
        client.responses.create(model=ECHO, input=unseen, previous_response_id=first.id)  # type: ignore[arg-type]
    assert caught.value.param == "previous_response_id"


def test_the_same_idempotency_key_is_the_same_background_response(client: OpenAI) -> None:
    headers = {"idempotency-key": "once"}
    ids = {
        client.responses.create(model=ECHO, input="once", background=True, extra_headers=headers).id for _ in range(3)
    }
    assert len(ids) == 1


def test_the_command_lists_shows_and_cancels(
    client: OpenAI, server: Served, ashore: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    begun = client.responses.create(model=ECHO, input="seen from the shell", background=True)
    eventually(lambda: client.responses.retrieve(begun.id).status == "completed")
    listed = ashore("job", "list", "--json", "--limit", "1000", home=server.home)
    items = {item["id"]: item for item in json.loads(listed.stdout)["items"]}
    assert items[begun.id]["state"] == "succeeded" and items[begun.id]["kind"] == "response"
    assert begun.id in ashore("job", "list", "--state", "succeeded", home=server.home).stdout
    shown = ashore("job", "show", begun.id, home=server.home)
    assert "succeeded" in shown.stdout and "seen from the shell" not in shown.stdout
    ended = ashore("job", "cancel", begun.id, home=server.home)
    assert ended.returncode == 0 and "already ended: succeeded" in ended.stdout, "it is its own"
    assert ashore("job", "show", "resp_nothing", home=server.home).returncode == 2
    assert ashore("job", "list", "--state", "odd", home=server.home).returncode == 2
    secret = ashore("job", "webhook-secret", home=server.home).stdout.strip()
    assert secret.startswith("whsec_")
    assert secret == ashore("job", "webhook-secret", home=server.home).stdout.strip()


def test_nobody_acts_for_another_without_the_internal_token(client: OpenAI, server: Served) -> None:
    headers = {"x-ashore-on-behalf-of": "somebody/other-tenant"}
    mine = client.responses.create(model=ECHO, input="mine", store=True)
    with pytest.raises(AuthenticationError), OpenAI(base_url=server.base_url, api_key="wrong", max_retries=0) as other:
        other.responses.retrieve(mine.id, extra_headers=headers)
    assert client.responses.retrieve(mine.id, extra_headers=headers).id == mine.id, "the header alone means nothing"
    token = server.home / "run" / "internal-token"
    assert token.stat().st_mode & 0o777 == 0o600
    with OpenAI(base_url=server.base_url, api_key=token.read_text().strip(), max_retries=0) as inner:
        with pytest.raises(PermissionDeniedError):
            inner.responses.retrieve(mine.id)
        with pytest.raises(NotFoundError):
            inner.responses.retrieve(mine.id, extra_headers=headers)


@pytest.mark.full
def test_nothing_accepted_is_lost_over_fifty_kills() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "jobs_kills.py"
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "50", "--pause", "0.8", "--json"],
        capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_put_off_and_cancelled_on_a_slow_model(tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = """
[admission]
max_waiting = 1
[jobs]
concurrency = 2
[[model]]
name = "fake:echo?tok_per_s=20&sequences=1"
alias = "slow"
"""
    one = start_served(tmp_path / "home", [], store=None, port=free_port(), grpc_port=free_port(), config=config)
    try:
        with OpenAI(base_url=one.base_url, api_key=one.key, max_retries=0) as client:
            body = {"model": "slow", "messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 400}
            running = client.responses.create(model="slow", input="y" * 600, background=True)
            eventually(lambda: client.responses.retrieve(running.id).status == "in_progress")
            assert client.responses.cancel(running.id).status == "cancelled"
            assert client.responses.retrieve(running.id).status == "cancelled"

            lines = lines_of(*({**body, "messages": [{"role": "user", "content": f"{n}" * 90}]} for n in range(4)))
            file = client.files.create(file=("in.jsonl", lines), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            eventually(lambda: client.batches.retrieve(batch.id).status == "in_progress")
            time.sleep(0.5)
            began = time.monotonic()
            answer = client.chat.completions.create(
                model="slow", messages=[{"role": "user", "content": "now"}], max_tokens=2
            )
            assert answer.choices and time.monotonic() - began < 9, "a batch of 18 s gave its slot up"
            assert client.batches.cancel(batch.id).status == "cancelling"
            eventually(lambda: client.batches.retrieve(batch.id).status == "cancelled")

            streams = [
                client.chat.completions.create(**body, stream=True)  # type: ignore[call-overload]
            ]
            next(iter(streams[0]))
            raw = client.chat.completions.with_raw_response.create(
                model="slow",
                messages=[{"role": "user", "content": "later"}],
                max_tokens=3,
                extra_headers={"x-ashore-defer": "allow", "x-ashore-deadline-ms": "300"},
            )
            told = json.loads(raw.content)
            assert raw.status_code == 202 and raw.headers["location"] == f"/v1/jobs/{told['id']}"
            put_off = {"x-ashore-defer": "allow", "x-ashore-deadline-ms": "300", "x-ashore-priority": "3"}
            turn = {"role": "user", "content": "later still"}
            message = client.post(
                "/messages", cast_to=dict, body={"model": "slow", "max_tokens": 3, "messages": [turn]},
                options={"headers": put_off},
            )  # fmt: skip
            for stream in streams:
                stream.close()
            said = eventually(
                lambda: (
                    (job := client.get(message["status_url"].removeprefix("/v1"), cast_to=dict)).get("response")  # type: ignore[index, attr-defined]
                    and job
                )
            )
            assert said["priority"] == 3 and said["response"]["body"]["type"] == "message"  # type: ignore[index]
            got = eventually(
                lambda: (job := client.get(f"/jobs/{told['id']}", cast_to=dict)).get("status") == "succeeded" and job  # type: ignore[attr-defined]
            )
            assert got["response"]["status"] == 200  # type: ignore[index]
    finally:
        one.stop()
