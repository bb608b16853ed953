"""A real llama-server behind the engine for servers: ids in and out, stop tokens, log-probabilities, cancelling."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_files import demo_files
from engine_bench import finish, order, run, token_ids
from llama_server import llama_server
from node_lists import nodes_at
from waiting import eventually

from ashore.data.engines import EngineOptions, ModelFiles, Token, make_engine
from ashore.data.engines.vllm.engine import VllmEngine

pytestmark = pytest.mark.model

PROMPTS = ([504, 3575, 282, 4649, 314], [504, 808, 314], [57, 5248, 288])
TOKENS = 5


@pytest.fixture(scope="module")
def files(demo_home: Path) -> ModelFiles:
    return demo_files(demo_home)


@pytest.fixture(scope="module")
def address(files: ModelFiles) -> Iterator[str]:
    with llama_server(Path(files.directory) / files.weights) as url:
        yield url


@pytest.fixture(scope="module")
def engine(address: str) -> Iterator[VllmEngine]:
    one = VllmEngine()
    remote = ModelFiles(name="remote", digest="", directory="/nowhere", format="remote")
    one.load(remote, EngineOptions(kind="vllm", extra=nodes_at(address)))
    yield one
    one.close()


def test_it_says_what_it_is_and_its_slots_share_the_context(engine: VllmEngine) -> None:
    info = engine._info
    assert info is not None and info.version.startswith("llama-server")
    assert info.context_tokens == 2048, "4,096 for two slots"
    assert {"grammar", "logprobs"} <= set(info.features) and {"score", "adapters"}.isdisjoint(info.features)


def test_greedy_ids_are_those_of_the_engine_of_ours(engine: VllmEngine, files: ModelFiles) -> None:
    ours = make_engine("llamacpp")
    ours.load(files, EngineOptions(kind="llamacpp", context_tokens=512, kv_tokens=1024, threads=2))
    try:
        orders = [order(f"o{at}", prompt, max_new_tokens=TOKENS) for at, prompt in enumerate(PROMPTS)]
        here = {name: token_ids(events) for name, events in run(ours, *orders).items()}
    finally:
        ours.close()
    for one in orders:  # one after the other: a connection that the server closes after a stream is made again
        events = run(engine, one, steps=100_000)[one.order_id]
        assert token_ids(events) == here[one.order_id], events
        assert finish(events).completion_tokens == TOKENS


def test_a_stop_token_ends_the_answer_and_log_probabilities_are_by_id(engine: VllmEngine) -> None:
    prompt = PROMPTS[0]
    events = run(engine, order("p", prompt, max_new_tokens=3, top_logprobs=2), steps=100_000)["p"]
    tokens = [event for event in events if isinstance(event, Token)]
    assert all(token.logprob is not None and token.top[0].token_id == token.token_id for token in tokens)
    stop = tokens[1].token_id
    events = run(engine, order("s", prompt, max_new_tokens=20, stop_token_ids=(stop,)), steps=100_000)["s"]
    assert token_ids(events) == [tokens[0].token_id]
    assert (finish(events).reason, finish(events).stop_token_id) == ("stop", stop)


def test_cancelling_an_order_frees_its_slot(engine: VllmEngine, address: str) -> None:
    def busy() -> bool:
        with urllib.request.urlopen(f"{address}/slots", timeout=60) as answer:
            return any(slot["is_processing"] for slot in json.load(answer))

    long = order("long", PROMPTS[0], max_new_tokens=1500, ignore_eos=True)
    engine.submit(long)
    eventually(lambda: any(isinstance(event, Token) for event in engine.step(0.05)), limit_s=120)
    assert busy()
    engine.cancel(long.order_id)
    eventually(lambda: not busy(), limit_s=120)
