"""What a client sees of an answer that its own deadline ended: the text so far, and why there is no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.http_worker import Worker, http_worker

SOON = {"x-ashore-deadline-ms": "300", "x-ashore-cache": "off"}
CHATS = {"messages": [{"role": "user", "content": "x" * 400}]}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with http_worker(tmp_path_factory.mktemp("worker"), models={"steady": "slow-40"}) as one:
        yield one


def send(worker: Worker, path: str, body: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    status, headers, answer = worker.request("POST", path, json.dumps({"model": "steady", **body}), headers=SOON)
    assert status == 200, answer
    return headers, answer


def events(stream: bytes) -> list[dict[str, Any]]:
    lines = (line.removeprefix(b"data: ") for line in stream.splitlines() if line.startswith(b"data: {"))
    return [json.loads(line) for line in lines]


def test_chat(worker: Worker) -> None:
    headers, answer = send(worker, "/v1/chat/completions", CHATS)
    (choice,) = json.loads(answer)["choices"]
    assert (choice["finish_reason"], choice["cut_by"], headers["x-ashore-cut-by"]) == ("length", "deadline", "deadline")
    assert 0 < len(choice["message"]["content"]) < 400
    _, stream = send(worker, "/v1/chat/completions", {**CHATS, "stream": True})
    assert stream.rstrip().endswith(b"data: [DONE]")
    last = events(stream)[-1]["choices"][0]
    assert (last["finish_reason"], last["cut_by"]) == ("length", "deadline")
    assert "cut_by" not in events(stream)[0]["choices"][0]


def test_an_answer_that_ends_by_itself_says_nothing_of_it(worker: Worker) -> None:
    short = {"messages": [{"role": "user", "content": "x"}]}
    headers, answer = send(worker, "/v1/chat/completions", short)
    assert b"cut_by" not in answer
    assert "x-ashore-cut-by" not in headers


def test_completions(worker: Worker) -> None:
    body = {"prompt": "x" * 400, "max_tokens": 400}
    headers, answer = send(worker, "/v1/completions", body)
    (choice,) = json.loads(answer)["choices"]
    assert (choice["finish_reason"], choice["cut_by"], headers["x-ashore-cut-by"]) == ("length", "deadline", "deadline")
    _, stream = send(worker, "/v1/completions", {**body, "stream": True})
    last = events(stream)[-1]["choices"][0]
    assert (last["finish_reason"], last["cut_by"]) == ("length", "deadline")


def test_messages(worker: Worker) -> None:
    body = {**CHATS, "max_tokens": 400}
    headers, answer = send(worker, "/v1/messages", body)
    told = json.loads(answer)
    assert (told["stop_reason"], told["cut_by"], headers["x-ashore-cut-by"]) == ("max_tokens", "deadline", "deadline")
    assert told["content"][0]["text"]
    _, stream = send(worker, "/v1/messages", {**body, "stream": True})
    delta = next(event["delta"] for event in events(stream) if event["type"] == "message_delta")
    assert delta == {"stop_reason": "max_tokens", "stop_sequence": None, "cut_by": "deadline"}


def test_responses(worker: Worker) -> None:
    _, answer = send(worker, "/v1/responses", {"input": "x" * 400})
    told = json.loads(answer)
    assert told["status"] == "incomplete"
    assert told["incomplete_details"] == {"reason": "max_output_tokens", "cut_by": "deadline"}
    _, stream = send(worker, "/v1/responses", {"input": "x" * 400, "stream": True})
    last = events(stream)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"]["cut_by"] == "deadline"
