"""A server behind the vllm engine that lies: nothing that it says costs more than the order that it was given."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from engine_bench import failure, finish, order, run, token_ids
from node_lists import nodes_at

from ashore.core.errors import EngineFailed
from ashore.data.engines import EngineOptions, ModelFiles, ScoreText, scored
from ashore.data.engines.frames import Events, decode_to_worker, encode
from ashore.data.engines.vllm.engine import VllmEngine

REMOTE = ModelFiles(name="remote", digest="", directory="/nowhere", format="remote")
Say = Callable[[Any], None]


class Liar:
    """Says who it is as vLLM does, and to an order whatever a test has it say."""

    def __init__(self) -> None:
        self.status = 200
        self.say: Say = lambda out: None
        self.version: object = {"version": "1"}
        self.asked = 0
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = {"/v1/models": {"data": [{"id": "remote"}]}, "/version": liar.version}.get(self.path, {})
                self._begin(200)
                self.wfile.write(json.dumps(told).encode())

            def do_POST(self) -> None:
                liar.asked += 1
                self.rfile.read(int(self.headers["content-length"]))
                self._begin(liar.status)
                with contextlib.suppress(OSError):
                    liar.say(self.wfile)

            def _begin(self, status: int) -> None:
                self.send_response(status)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def liar() -> Iterator[Liar]:
    one = Liar()
    yield one
    one.close()


@pytest.fixture
def engine(liar: Liar) -> Iterator[VllmEngine]:
    one = VllmEngine()
    one.load(REMOTE, EngineOptions(kind="vllm", extra=nodes_at(liar.url)))
    yield one
    one.close()


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def end(*ids: int) -> bytes:
    return event(choices=[{"token_ids": list(ids), "finish_reason": "length"}])


@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_answer_without_an_end_is_cut_off(engine: VllmEngine, liar: Liar, status: int) -> None:
    liar.status, sent = status, [0]

    def say(out: Any) -> None:
        for _ in range(256):  # MiB; of one line
            out.write(b"x" * (1 << 20))
            sent[0] += 1

    liar.say = say
    assert failure(run(engine, order("a", [5, 6]))["a"]).code in ("engine_failed", "kills_hosts", "invalid_request")
    assert sent[0] / liar.asked < 128


@pytest.mark.parametrize("token_id", [2**70, 2**31, -1])
def test_an_id_that_is_none_ends_its_own_order_alone(engine: VllmEngine, liar: Liar, token_id: int) -> None:
    liar.say = lambda out: void(out.write(end(7, token_id)))
    events = run(engine, order("a", [5, 6]))["a"]
    assert decode_to_worker(encode(Events(events))[4:])
    assert failure(events).code == "engine_failed"


def test_more_tokens_than_were_asked_for_are_not_passed_on(engine: VllmEngine, liar: Liar) -> None:
    def say(out: Any) -> None:
        for _ in range(100_000):
            out.write(event(choices=[{"token_ids": [7, 8, 9]}]))

    liar.say = say
    events = run(engine, order("a", [5, 6], max_new_tokens=10))["a"]
    assert token_ids(events) == [7, 8, 9, 7, 8, 9, 7, 8, 9, 7]
    assert (finish(events).reason, finish(events).completion_tokens) == ("length", 10)


@pytest.mark.parametrize(("told", "taken"), [(-5, 0), (10**6, 2), (1, 1)])
def test_a_count_of_cached_tokens_stays_within_the_prompt(
    engine: VllmEngine, liar: Liar, told: int, taken: int
) -> None:
    usage = event(usage={"prompt_tokens": 2, "prompt_tokens_details": {"cached_tokens": told}})
    liar.say = lambda out: void(out.write(usage + end(7)))
    assert finish(run(engine, order("a", [5, 6]))["a"]).cached_tokens == taken


def test_a_version_that_is_none_is_not_known(liar: Liar) -> None:
    for told in ([1], {"version": "x" * 10_000}):
        liar.version = told
        engine = VllmEngine()
        try:
            info = engine.load(REMOTE, EngineOptions(kind="vllm", extra=nodes_at(liar.url)))
            assert len(info.version) < 200
        finally:
            engine.close()


@pytest.mark.parametrize("vectors", [[], [[1.0, 0.0]], [[1.0, 0.0], [1.0]], [[1.0, 0.0], []]])
def test_other_vectors_than_were_asked_for_are_an_error(liar: Liar, vectors: list[list[float]]) -> None:
    def say(*found: list[float]) -> Say:
        data = [{"index": at, "embedding": one} for at, one in enumerate(found)]
        return lambda out: void(out.write(json.dumps({"data": data}).encode()))

    liar.say = say([1.0, 0.0])
    engine = VllmEngine()
    try:
        extra: dict[str, Any] = {**nodes_at(liar.url), "task": "embed"}
        engine.load(REMOTE, EngineOptions(kind="vllm", extra=extra))
        liar.say = say(*vectors)
        with pytest.raises(EngineFailed):
            engine.embed([[1], [2]])
        liar.say = lambda out: void(out.write(b'{"choices": []}'))
        with pytest.raises(EngineFailed):
            scored(engine, [ScoreText([1, 2, 3])])
    finally:
        engine.close()


def void(_: object) -> None:
    """Return nothing."""
