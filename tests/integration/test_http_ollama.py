"""The read-only part of Ollama's API, asked by Ollama's own Python client and by hand."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ollama
import pytest
from client_app import ALIAS, Answer, client_app
from http_worker import Worker, http_worker, state_link

from ashore.data.path import Limits
from ashore.kit.state import Database

HI: Final = [{"role": "user", "content": "Hi, 你好"}]
SUM: Final = {"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}
CALL: Final = '<tool_call>{"name": "sum", "arguments": {"a": 1}}</tool_call>'


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with http_worker(tmp_path_factory.mktemp("worker"), limits=Limits(ollama=True)) as one:
        yield one


@pytest.fixture(scope="module")
def client(worker: Worker) -> Iterator[ollama.Client]:
    with ollama.Client(host=worker.root, headers={"authorization": f"Bearer {worker.key}"}) as one:
        yield one


def post(worker: Worker, path: str, **body: Any) -> tuple[int, dict[str, str], Any]:
    status, headers, answer = worker.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    lines = [json.loads(line) for line in answer.splitlines()]
    return status, headers, lines if "ndjson" in headers.get("content-type", "") else lines[0]


def test_what_is_served_is_listed_and_shown(client: ollama.Client, worker: Worker) -> None:
    listed = {one.model: one for one in client.list().models}
    assert set(listed) == {"echo", "slow", "dies"}
    echo = listed["echo"]
    assert echo.digest == hashlib.sha256(b"echo-1").hexdigest() and echo.modified_at is not None
    assert echo.details is not None and echo.details.format == "fake"
    shown = client.show("echo:latest")
    assert shown.modelinfo is not None
    assert shown.modelinfo[f"{shown.modelinfo['general.architecture']}.context_length"] == 4096
    assert shown.capabilities is not None and shown.capabilities[0] == "completion"
    running = client.ps().models[0]
    assert running.context_length == 4096 and running.expires_at is not None
    status, _, body = worker.request("GET", "/api/version")
    assert status == 200 and json.loads(body)["server"] == "ashore"


def test_a_chat_comes_in_lines_and_whole(client: ollama.Client) -> None:
    pieces = list(client.chat("echo", messages=HI, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == "Hi, 你好"
    assert [piece.done for piece in pieces] == [*[False] * (len(pieces) - 1), True]
    last = pieces[-1]
    assert (last.done_reason, last.prompt_eval_count, last.eval_count) == ("stop", 10, 10)
    assert last.total_duration is not None and last.eval_duration is not None and last.created_at is not None
    assert last.total_duration >= last.eval_duration > 0
    whole = client.chat("echo", messages=HI, options={"num_predict": 2})
    assert (whole.message.content, whole.done_reason, whole.eval_count) == ("Hi", "length", 2)


def test_lines_stream_by_default_and_end_with_done(worker: Worker) -> None:
    status, headers, lines = post(worker, "/api/chat", model="echo", messages=HI)
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert lines[-1]["done"] is True and headers["x-ashore-release"] == "echo-1"


def test_a_prompt_is_answered_completed_and_filled(client: ollama.Client) -> None:
    assert client.generate("echo", "Hi", system="Be brief").response == "Hi"
    raw = client.generate("echo", "raw text", raw=True, options={"num_predict": 3, "temperature": 0})
    assert (raw.response, raw.done_reason) == ("raw", "length")
    assert client.generate("echo", "ab", suffix="cd").response == "<PRE>ab<SUF>cd<MID>"
    told = client.generate("echo", "Hi", logprobs=True, top_logprobs=2)
    assert told.logprobs is not None and [one.token for one in told.logprobs] == ["H", "i"]
    assert told.logprobs[0].top_logprobs is not None and len(told.logprobs[0].top_logprobs) == 2
    assert "".join(piece.response or "" for piece in client.generate("echo", "Hi", stream=True)) == "Hi"


def test_nothing_to_ask_means_is_it_there(client: ollama.Client) -> None:
    assert (client.generate("echo").done_reason, client.chat("echo", messages=[]).done_reason) == ("load", "load")
    with pytest.raises(ollama.ResponseError, match="no model is called 'ecko'"):
        client.generate("ecko")


def test_texts_become_vectors(client: ollama.Client, worker: Worker) -> None:
    made = client.embed("echo", ["a", "b"], dimensions=4, truncate=True)
    assert [len(vector) for vector in made.embeddings] == [4, 4] and made.prompt_eval_count == 2
    assert len(client.embeddings("echo", "a").embedding) > 4
    _, headers, _ = post(worker, "/api/embed", model="echo", input="a", truncate=True, options={"num_ctx": 9})
    assert headers["x-ashore-ignored"] == "truncate, options"


def test_options_are_taken_said_or_refused(worker: Worker) -> None:
    options = {"repeat_penalty": 1.1, "top_k": 40, "num_ctx": 8192, "num_gpu": 1, "mirostat": 0, "seed": -1}
    status, headers, _ = post(worker, "/api/chat", model="echo", messages=HI, options=options, keep_alive="5m")
    assert status == 200
    assert headers["x-ashore-ignored"] == "options.num_ctx, options.num_gpu, keep_alive"
    for body, param in (
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"temperature": 9}}, "options.temperature"),
        ({"messages": [{**HI[0], "images": ["aGk="]}]}, "messages[0].images"),
        ({"format": {"type": 3}}, None),
    ):
        status, _, fault = post(worker, "/api/chat", **{"model": "echo", "messages": HI, **body})
        assert status == 400 and fault["code"] and fault.get("param") == param, fault
    assert post(worker, "/api/chat", model="echo", messages=[{**HI[0], "images": []}])[0] == 200


def test_refusals_are_in_the_form_that_ollamas_clients_show(client: ollama.Client, worker: Worker) -> None:
    with pytest.raises(ollama.ResponseError) as refused:
        client.chat("ecko", messages=HI)
    assert refused.value.status_code == 404 and "Hint: did you mean 'echo'?" in refused.value.error
    with ollama.Client(host=worker.root) as nobody, pytest.raises(ollama.ResponseError) as refused:
        nobody.list()
    assert refused.value.status_code == 401
    with pytest.raises(ollama.ResponseError) as refused:
        client.pull("llama3")
    assert refused.value.status_code == 404 and "ashore model" in refused.value.error
    with pytest.raises(ollama.ResponseError):  # after the first piece: a line of its own
        list(client.chat("dies", messages=[{"role": "user", "content": "hello world"}], stream=True))


def test_it_is_off_unless_it_is_turned_on(tmp_path: Path) -> None:
    with http_worker(tmp_path, models={"echo": "echo"}) as one:
        for method, path in (("GET", "/api/tags"), ("POST", "/api/chat")):
            status, _, body = one.request(method, path, b"{}" if method == "POST" else None)
            assert status == 404 and b"[http] ollama = true" in body


def test_a_kept_answer_is_shared_with_the_other_routes(tmp_path: Path, state: Database) -> None:
    with http_worker(tmp_path / "run", limits=Limits(ollama=True), state=state_link(tmp_path)) as one:
        chat = {"model": "echo", "messages": HI, "temperature": 0}
        first = one.request("POST", "/v1/chat/completions", json.dumps(chat))
        assert first[1]["x-ashore-cache"] == "miss"
        asked = {"model": "echo:latest", "messages": HI, "options": {"temperature": 0}}
        for _ in range(3):
            status, headers, lines = post(one, "/api/chat", **asked)
            assert (status, headers["x-ashore-cache"]) == (200, "hit-exact")
            assert "".join(line["message"]["content"] for line in lines) == "Hi, 你好"


def test_tools_are_called_with_values_and_answered_without_ids(tmp_path: Path) -> None:
    async def ask(messages: list[dict[str, Any]], **fields: Any) -> Answer:
        async with client_app(tmp_path, Limits(ollama=True)) as app:
            return await app.ask("POST", "/api/chat", {"model": ALIAS, "messages": messages, "tools": [SUM], **fields})

    asked = {"role": "user", "content": CALL}
    whole = json.loads(asyncio.run(ask([asked], stream=False)).body)
    call = whole["message"]["tool_calls"][0]
    assert call["function"] == {"index": 0, "name": "sum", "arguments": {"a": 1}}
    lines = [json.loads(line) for line in asyncio.run(ask([asked])).body.splitlines()]
    assert [line["message"]["tool_calls"][0]["function"] for line in lines if "tool_calls" in line["message"]] == [
        call["function"]
    ]
    assert lines[-1]["done"] is True
    answered = [asked, whole["message"], {"role": "tool", "tool_name": "sum", "content": "It is 1"}]
    assert json.loads(asyncio.run(ask(answered, stream=False)).body)["message"]["content"] == "It is 1"
