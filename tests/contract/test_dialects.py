"""Servers that take token ids in other forms than vLLM's. The answers are in the forms of their sources; llama-server's
are as a real one gave them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from engine_bench import failure, finish, order, run, token_ids
from node_lists import nodes_at

from ashore.core.errors import InvalidSpec
from ashore.data.engines import EngineOptions, Grammar, ModelFiles, Sampling, Token
from ashore.data.engines.vllm.engine import VllmEngine
from ashore.data.engines.vllm.spoken import DIALECTS

REMOTE = ModelFiles(name="remote", digest="", directory="/nowhere", format="remote")
DONE = ["[DONE]"]


def llama(*tokens: int, end: str = "limit", probs: bool = False) -> list[Any]:
    best = [{"id": 9, "logprob": -0.1}, {"id": 8, "logprob": -2.5}]
    chosen = {"completion_probabilities": [{"id": 9, "logprob": -0.1, "top_logprobs": best}]} if probs else {}
    said = [{"content": "x", "tokens": [one], "stop": False, **chosen} for one in tokens]
    return [*said, {"content": "", "tokens": [], "stop": True, "stop_type": end, "timings": {"cache_n": 2}}]


def sglang(*tokens: int, end: dict[str, Any], repeats: bool) -> list[Any]:
    found = []
    for at in range(1, len(tokens) + 1):
        meta = {"completion_tokens": at, "cached_tokens": 2, "finish_reason": end if at == len(tokens) else None}
        told = list(tokens[:at] if repeats else tokens[at - 1 : at])
        meta["output_token_logprobs"] = [[-0.5, one, None] for one in told]
        meta["output_top_logprobs"] = [[[-0.5, one, None], [-3.0, 1, None]] for one in told]
        found.append({"text": "x", "output_ids": told, "meta_info": meta})
    return found + DONE


def trtllm(*tokens: int, end: str) -> list[Any]:
    said = [{"choices": [{"index": 0, "text": "", "token_ids": [one], "finish_reason": None}]} for one in tokens]
    said[-1]["choices"][0]["finish_reason"] = end
    usage = {"prompt_tokens": 3, "completion_tokens": len(tokens), "prompt_tokens_details": {"cached_tokens": 2}}
    return [*said, {"choices": [], "usage": usage}, *DONE]


WHOLE = {
    "llamacpp": llama(4, 5, 6),
    "sglang": sglang(4, 5, 6, end={"type": "length", "length": 3}, repeats=True),
    "sglang-incremental": sglang(4, 5, 6, end={"type": "length", "length": 3}, repeats=False),
    "tensorrt_llm": trtllm(4, 5, 6, end="length"),
    "lmdeploy": sglang(4, 5, 6, end={"type": "length"}, repeats=False),
}


class Replay(ThreadingHTTPServer):
    """Answers every order with the same events."""

    owner: str
    events: list[Any]
    bodies: list[dict[str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: Replay

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _send(self, data: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        models = {"data": [{"id": "the-model", "owned_by": self.server.owner, "max_model_len": 512}]}
        props = {"default_generation_settings": {"n_ctx": 512}, "build_info": "b7-abc"}
        answers = {"/v1/models": models, "/props": props}
        self._send(json.dumps(answers.get(self.path, {"version": "7.1"})).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append({"path": self.path, **body})
        lines = [one if isinstance(one, str) else json.dumps(one) for one in self.server.events]
        self._send("".join(f"data: {line}\n\n" for line in lines).encode(), "text/event-stream")


@contextmanager
def replaying(owner: str, events: list[Any], **extra: Any) -> Iterator[tuple[VllmEngine, Replay]]:
    server = Replay(("127.0.0.1", 0), _Handler)
    server.owner, server.events, server.bodies = owner.partition("-")[0], events, []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    engine = VllmEngine()
    try:
        nodes = nodes_at(f"http://127.0.0.1:{server.server_port}")
        engine.load(REMOTE, EngineOptions(kind="vllm", extra={**nodes, **extra}))
        yield engine, server
    finally:
        engine.close()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("owner", WHOLE)
def test_every_dialect_brings_the_same_ids_and_what_its_cache_had(owner: str) -> None:
    with replaying(owner, WHOLE[owner]) as (engine, server):
        events = run(engine, order("a", [1, 2, 3], max_new_tokens=3))["a"]
        assert token_ids(events) == [4, 5, 6]
        end = finish(events)
        assert (end.reason, end.prompt_tokens, end.cached_tokens, end.completion_tokens) == ("length", 3, 2, 3)
        body = server.bodies[0]
        assert [1, 2, 3] in (body.get("prompt"), body.get("input_ids"))
        assert body["path"] == next(one.path for one in DIALECTS if one.owner == server.owner)


@pytest.mark.parametrize("owner", WHOLE)
def test_an_answer_that_is_cut_never_looks_whole(owner: str) -> None:
    cut = [one for one in WHOLE[owner][:2] if one != "[DONE]"]
    with replaying(owner, cut) as (engine, _):
        events = run(engine, order("a", [1, 2, 3], max_new_tokens=60))["a"]  # more than four attempts bring
        assert failure(events).code == "engine_failed"


def test_a_stop_token_that_a_server_does_not_know_ends_the_answer_here() -> None:
    with replaying("llamacpp", llama(4, 5, 6, end="eos")) as (engine, _):
        events = run(engine, order("a", [1, 2], stop_token_ids=(5,)))["a"]
        assert token_ids(events) == [4]
        end = finish(events)
        assert (end.reason, end.stop_token_id) == ("stop", 5)


def test_log_probabilities_come_by_id() -> None:
    with replaying("llamacpp", llama(9, probs=True)) as (engine, server):
        events = run(engine, order("a", [1, 2], max_new_tokens=1, top_logprobs=2))["a"]
        (token,) = [event for event in events if isinstance(event, Token)]
        assert token.logprob == -0.1 and [one.token_id for one in token.top] == [9, 8]
        assert server.bodies[0]["n_probs"] == 2
    repeated = sglang(4, 5, end={"type": "length"}, repeats=True)
    with replaying("sglang", repeated) as (engine, _):
        events = run(engine, order("a", [1, 2], max_new_tokens=2, top_logprobs=1))["a"]
        assert [event.logprob for event in events if isinstance(event, Token)] == [-0.5, -0.5]


def test_no_sampling_field_is_left_to_llama_server() -> None:
    """Its defaults are not neutral: `top_k` 40, `top_p` 0.95, `min_p` 0.05, a temperature of 0.8."""
    with replaying("llamacpp", llama(4)) as (engine, server):
        run(engine, order("a", [1, 2], max_new_tokens=1, sampling=Sampling(), prefix_partition="acme"))
        body = server.bodies[0]
        assert (body["temperature"], body["top_k"], body["top_p"], body["min_p"]) == (1.0, 0, 1.0, 0.0)
        assert body["cache_prompt"] is False, "a slot has no partition"
        assert body["repeat_penalty"] == 1.0 and body["samplers"]


def test_what_a_dialect_lacks_is_refused_in_words() -> None:
    with replaying("lmdeploy", WHOLE["lmdeploy"]) as (engine, server):
        info = engine._info
        assert info is not None and {"grammar", "seed", "logit_bias", "score"}.isdisjoint(info.features)
        events = run(engine, order("a", [1], grammar=Grammar(kind="json_object")))["a"]
        assert failure(events).code == "unsupported_by_engine" and not server.bodies
    with replaying("llamacpp", llama(4)) as (engine, server):
        events = run(engine, order("a", [1], grammar=Grammar(kind="regex", text="a+")))["a"]
        assert failure(events).code == "unsupported_by_engine" and not server.bodies


def test_an_operator_may_say_the_dialect_and_a_wrong_word_is_refused() -> None:
    with replaying("somebody", llama(4), dialect="llama-server") as (engine, server):
        run(engine, order("a", [1, 2], max_new_tokens=1))
        assert server.bodies[0]["path"] == "/completion"
        assert engine._info is not None and engine._info.version == "llama-server b7-abc"
    with pytest.raises(InvalidSpec, match="no server speaks"), replaying("llamacpp", [], dialect="lama-server"):
        pass


@pytest.mark.parametrize(
    "event", ['{"tokens": [-1]}', '{"tokens": ["x"]}', "{", '{"error": {"message": "out of memory"}}', '{"stop": true}']
)
def test_a_hostile_event_fails_its_order_alone(event: str) -> None:
    with replaying("llamacpp", [event]) as (engine, server):
        assert failure(run(engine, order("a", [1, 2], max_new_tokens=1))["a"]).code in ("engine_failed", "kills_hosts")
        server.events = llama(4)
        assert token_ids(run(engine, order("b", [1, 2], max_new_tokens=1))["b"]) == [4]
