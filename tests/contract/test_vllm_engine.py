"""The vLLM engine against the double: what it sends, how it fails, and the server's life as our child."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_bench import drain, failure, finish, order, run
from msgspec.structs import replace
from node_lists import nodes_at
from vllm_double import VllmDouble
from waiting import eventually

from ashore.core.errors import (
    EngineFailed,
    HostDied,
    MissingExtra,
    RemoteRefused,
    UnsupportedByEngine,
    UnsupportedModel,
)
from ashore.core.ids import OrderId
from ashore.data.engines import EngineOptions, Grammar, ModelFiles, Sampling, ScoreText, Token, scored
from ashore.data.engines.vllm.command import vllm_command
from ashore.data.engines.vllm.engine import VllmEngine

REMOTE = ModelFiles(name="remote", digest="", directory="/nowhere", format="remote")


def options(*urls: str, **extra: Any) -> EngineOptions:
    return EngineOptions(kind="vllm", extra={**(nodes_at(*urls) if urls else {}), **extra})


@pytest.fixture
def double() -> Iterator[VllmDouble]:
    server = VllmDouble("fake:random?tokens=400&context=512")
    yield server
    server.close()


@pytest.fixture
def engine(double: VllmDouble) -> Iterator[VllmEngine]:
    one = VllmEngine()
    one.load(REMOTE, options(double.url))
    yield one
    one.close()


def test_the_server_tells_name_context_and_version(engine: VllmEngine, double: VllmDouble) -> None:
    other = VllmEngine()
    info = other.load(REMOTE, options(double.url))
    other.close()
    assert (info.context_tokens, info.version) == (512, "vllm 0.0-double")


def test_a_server_that_cannot_sleep_is_refused_where_it_is_to(double: VllmDouble) -> None:
    one = VllmEngine()
    with pytest.raises(UnsupportedByEngine, match="cannot sleep") as caught:
        one.load(REMOTE, options(double.url, enable_sleep_mode=True))
    one.close()
    assert "VLLM_SERVER_DEV_MODE" in caught.value.hint


def test_one_that_somebody_left_asleep_is_woken_when_it_is_loaded(double: VllmDouble) -> None:
    double.can_sleep = double.is_asleep = True
    one = VllmEngine()
    assert "sleep" in one.load(REMOTE, options(double.url, enable_sleep_mode=True)).features
    assert not double.is_asleep
    one.sleep()
    assert double.is_asleep
    double.refuses = [500]
    with pytest.raises(EngineFailed, match="not now"):
        one.wake()
    one.close()


def test_without_the_option_nothing_sleeps(engine: VllmEngine, double: VllmDouble) -> None:
    double.can_sleep = True
    other = VllmEngine()
    assert "sleep" not in other.load(REMOTE, options(double.url)).features
    other.close()


def test_an_order_becomes_a_completion_of_token_ids(engine: VllmEngine, double: VllmDouble) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, min_p=0.1, seed=3, logit_bias={7: -1.0}, repetition_penalty=1.1)
    grammar = Grammar(kind="json_schema", text='{"type":"object"}')
    one = order(
        "a", [5, 6], sampling=sampling, stop_token_ids=(2,), top_logprobs=4, grammar=grammar, prefix_partition="bank-a"
    )
    run(engine, one)
    body = double.bodies[-1]
    assert body["prompt"] == [5, 6]
    assert body["stream_options"] == {"include_usage": True}
    assert body["logit_bias"] == {"7": -1.0}
    assert body["stop_token_ids"] == [2]
    assert body["structured_outputs"] == {"json": {"type": "object"}}
    assert body["cache_salt"] == "bank-a", "vLLM keys its prefix cache by this"
    assert (body["return_token_ids"], body["logprobs"], body["min_p"], body["model"]) == (True, 4, 0.1, "the-model")
    assert "traceparent" not in double.headers[-1]
    run(engine, order("traced", [5, 6], traceparent="00-1"))
    assert double.headers[-1]["traceparent"] == "00-1"
    run(engine, order("b", [5, 6], ignore_eos=True, stop_token_ids=(2,)))
    assert double.bodies[-1]["ignore_eos"] is True, "what ends an order is what it names"
    assert not {"stop_token_ids", "seed", "cache_salt", "logprobs"} & set(double.bodies[-1])
    assert double.bodies[-1]["top_p"] == 1.0, "else vLLM takes what the model recommends"


def test_cancelling_closes_the_stream_so_that_the_server_aborts() -> None:
    double = VllmDouble("fake:random?tok_per_s=50&tokens=400&context=512")
    engine = VllmEngine()
    try:
        engine.load(REMOTE, options(double.url))
        engine.submit(order("long", [5, 6], max_new_tokens=300))
        while not any(isinstance(event, Token) for event in engine.step(0.5)):
            continue
        engine.cancel(OrderId("long"))
        assert finish(drain(engine, {"long"})["long"]).reason == "cancelled"
        eventually(lambda: double.aborted == 1)
        assert list(engine.step(0.1)) == []
    finally:
        engine.close()
        double.close()


def test_the_hosts_descriptor_is_readable_while_events_wait(engine: VllmEngine) -> None:
    import select

    fd, seconds = engine.wait_on()
    assert seconds is None
    engine.submit(order("a", [5, 6], max_new_tokens=1))
    assert select.select([fd], [], [], 5)[0], "nothing woke the host"
    drain(engine, {"a"})


def test_a_refusal_of_the_server_fails_the_order_with_its_words(engine: VllmEngine) -> None:
    event = failure(run(engine, order("bad", [13]))["bad"])
    assert event.code == "invalid_request"
    assert "unlucky prompt" in event.message


def test_no_order_goes_out_on_a_connection_that_rested_so_long_that_the_server_may_be_closing_it(
    engine: VllmEngine, double: VllmDouble
) -> None:
    scored(engine, [ScoreText([5, 6])])
    made = double.connections
    time.sleep(1.1)
    run(engine, order("a", [5, 6], max_new_tokens=1))
    assert double.connections == made + 1


def test_a_stream_that_breaks_off_never_ends_as_if_it_were_whole(engine: VllmEngine, double: VllmDouble) -> None:
    double.break_off_after = 3
    event = failure(run(engine, order("a", [5, 6], max_new_tokens=60))["a"])  # more than four attempts bring
    assert event.code in ("engine_failed", "source_unreachable")


def test_a_server_that_hangs_ends_its_orders_and_one_that_only_computes_does_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ashore.data.engines.vllm.servers.PROBE_S", 0.05)
    monkeypatch.setattr("ashore.data.engines.vllm.servers.SILENT_S", 0.6)
    monkeypatch.setattr("ashore.data.engines.vllm.servers.PATIENCE_S", 1.5)
    double, engine = VllmDouble("fake:random?delay_s=1.0&tokens=4"), VllmEngine()
    try:
        engine.load(REMOTE, options(double.url))
        assert finish(run(engine, order("slow", [1], max_new_tokens=4))["slow"]).reason == "length"
        double.goes_on.clear()
        event = failure(run(engine, order("never", [1], max_new_tokens=4))["never"])
        assert "has not responded for" in caplog.text and event.code == "not_ready"
        double.goes_on.set()
        assert finish(run(engine, order("again", [1], max_new_tokens=4))["again"]).reason == "length"
    finally:
        engine.close()
        double.close()


def test_scores_and_their_best_come_from_prompt_logprobs(engine: VllmEngine, double: VllmDouble) -> None:
    [rows] = scored(engine, [ScoreText([65, 66, 67])], top_logprobs=2)
    assert [row[0].token_id for row in rows] == [66, 67]
    assert rows == scored(double.engine(), [ScoreText([65, 66, 67])], top_logprobs=2)[0]


def test_an_embedding_server_embeds_and_does_not_generate(double: VllmDouble) -> None:
    engine = VllmEngine()
    info = engine.load(REMOTE, options(double.url, task="embed"))
    assert (info.features, info.embedding_size) == (("embed",), 384)
    assert engine.embed([[5, 6], [7]]) == double.engine().embed([[5, 6], [7]])
    assert failure(run(engine, order("a", [5]))["a"]).code == "unsupported_by_engine"
    engine.close()


def test_a_key_is_sent_and_a_missing_one_is_said() -> None:
    double = VllmDouble("fake:random", api_key="secret")
    try:
        for key, code in (("secret", None), ("wrong", RemoteRefused.code)):
            engine = VllmEngine()
            engine.load(REMOTE, options(double.url, api_key=key))
            events = run(engine, order("a", [5, 6]))["a"]
            assert (failure(events).code if code else None) == code
            engine.close()
    finally:
        double.close()


def test_where_nobody_listens_it_loads_and_says_why_it_has_no_node() -> None:
    engine = VllmEngine()
    try:
        assert engine.load(REMOTE, options("http://127.0.0.1:9")).version == "vllm, no node answers yet"
        assert "cannot be reached" in engine.stats().backends[0].reason
    finally:
        engine.close()


def test_adapters_are_loaded_where_they_are_absent_and_asked_for_by_their_names(
    engine: VllmEngine, double: VllmDouble
) -> None:
    engine.load_adapter("bank", "/adapters/bank")
    assert double.adapters == {"bank": "/adapters/bank"}
    run(engine, order("a", [5, 6], adapter="bank", max_new_tokens=1))
    assert double.bodies[-1]["model"] == "bank"
    assert failure(run(engine, order("b", [5, 6], adapter="law"))["b"]).code == "invalid_request"
    assert engine.stats().adapters == 1


def test_the_name_that_the_server_has_for_the_model_may_be_given(double: VllmDouble) -> None:
    engine = VllmEngine()
    engine.load(REMOTE, options(double.url, served_model_name="other"))
    assert "serves the-model, not 'other'" in engine.stats().backends[0].reason
    engine.close()


def test_the_command_line_is_exact() -> None:
    files = ModelFiles(name="deepseek-llm", digest="", directory="/models/x", format="safetensors")
    wanted = EngineOptions(
        kind="vllm",
        context_tokens=4096,
        max_sequences=32,
        extra={"tensor_parallel_size": 2, "enforce_eager": False, "dtype": "bfloat16", "start_timeout_s": 5},
    )
    line = " ".join(vllm_command(files, wanted, port=8123))
    assert line == (
        "vllm serve /models/x --host 127.0.0.1 --port 8123 --served-model-name deepseek-llm --max-num-seqs 32 "
        "--max-num-batched-tokens 512 --enable-prefix-caching --enable-prompt-tokens-details "
        "--max-logprobs 20 --max-model-len 4096 --tensor-parallel-size 2 --no-enforce-eager --dtype bfloat16"
    )
    looks_up = EngineOptions(kind="vllm", extra={"lookup": True})
    assert vllm_command(files, looks_up, port=1)[-2:] == [
        "--speculative-config",
        '{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}',
    ]
    assert "--speculative-config" not in vllm_command(files, replace(looks_up, extra={"lookup": False}), port=1)
    sleeps = EngineOptions(kind="vllm", extra={"enable_sleep_mode": True})
    assert "--enable-sleep-mode" in vllm_command(files, sleeps, port=1)
    with pytest.raises(UnsupportedModel):
        vllm_command(ModelFiles(name="x", digest="", directory="/", format="openvino"), wanted, port=1)


def test_a_missing_vllm_is_said_with_the_command(tmp_path: Path) -> None:
    files = ModelFiles(name="x", digest="", directory=str(tmp_path), format="safetensors")
    with pytest.raises(MissingExtra, match=f"serve {tmp_path}"):
        VllmEngine().load(files, options(executable="no-such-vllm"))


def test_a_server_of_ours_is_started_watched_and_stopped(tmp_path: Path) -> None:
    """The executable stands in for vLLM: it serves what the engine asks at its start, until it is told to end."""
    executable = tmp_path / "vllm"
    executable.write_text(STAND_IN)
    executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    files = ModelFiles(name="the-model", digest="", directory=str(tmp_path), format="safetensors")
    engine = VllmEngine()
    try:
        info = engine.load(files, options(executable=str(executable)))
        assert info.context_tokens == 99
        (tmp_path / "die").touch()
        with pytest.raises(HostDied, match="exit code 3"):
            for _ in range(200):
                engine.step(0.05)
    finally:
        engine.close()
        engine.close()


STAND_IN = """#!/usr/bin/env python3
import http.server, json, os, pathlib, sys, threading, time
here = pathlib.Path(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def do_GET(self):
        assert self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        data = json.dumps({"data": [{"id": "the-model", "max_model_len": 99}]}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(data))); self.end_headers()
        self.wfile.write(data)
def watch():
    while not (here / "die").exists(): time.sleep(0.02)
    os._exit(3)
threading.Thread(target=watch, daemon=True).start()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
