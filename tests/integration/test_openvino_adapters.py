"""LoRA adapters on the OpenVINO engine: each order its own, equal to a merged model, nothing shared between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_bench import drain, failure, finish, order, run, token_ids
from tiny_adapters import coarsen, make_adapter, merge
from tiny_models import make_tiny_model

from ashore.core.errors import UnknownModel, UnsupportedModel
from ashore.data.engines import (
    CanLoadAdapter,
    EngineEvent,
    EngineOptions,
    GenerateOrder,
    ModelFiles,
    Sampling,
    ScoreText,
    Token,
    scored,
)
from ashore.data.engines.openvino.engine import OpenVinoEngine
from ashore.data.engines.openvino.graph import PagedModel
from ashore.data.engines.openvino.prepare import prepare_openvino
from ashore.data.engines.rounding import RoundOrder

PROMPT = [5 + 7 * n % 197 for n in range(70)]
"""Two whole blocks of the prefix cache and a tail."""
TOLERANCE = 1e-3
"""Of log-probabilities in single precision, which sums in another order."""


def opened(checkpoint: Path, folder: Path) -> OpenVinoEngine:
    prepare_openvino(checkpoint, "model.safetensors", RoundOrder(precision="fp16"), folder)
    engine = OpenVinoEngine()
    files = ModelFiles(name="tiny", digest="", directory=str(folder), format="openvino", weights="openvino_model.xml")
    engine.load(files, EngineOptions(kind="openvino", kv_tokens=4096, extra={"full_precision": True}))
    return engine


@dataclass
class Bench:
    """A base model with two adapters, and each adapter merged into a model of its own."""

    engine: OpenVinoEngine
    merged: dict[str, OpenVinoEngine]
    folders: dict[str, Path]
    base: Path


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("adapters")
    base = coarsen(make_tiny_model(root / "base", request.param))
    folders = {
        "full": make_adapter(root / "full", base, seed=1),
        "part": make_adapter(root / "part", base, seed=2, rank=3, targets=("self_attn.v_proj", "mlp.down_proj")),
    }
    engine = opened(base, root / "base-ov")
    merged = {
        name: opened(merge(root / f"{name}-merged", base, folder), root / f"{name}-ov")
        for name, folder in folders.items()
    }
    for name, folder in folders.items():
        engine.load_adapter(name, str(folder))
    yield Bench(engine, merged, folders, base)
    for one in (engine, *merged.values()):
        one.close()


def greedy(name: str, adapter: str | None = None, prompt: list[int] = PROMPT, **fields: object) -> GenerateOrder:
    return order(
        name,
        prompt,
        max_new_tokens=24,
        adapter=adapter,
        sampling=Sampling(temperature=0),
        ignore_eos=True,
        top_logprobs=0,
        **fields,
    )


def logprobs(events: list[EngineEvent]) -> list[float]:
    return [e.logprob for e in events if isinstance(e, Token) and e.logprob is not None]


@pytest.mark.parametrize("adapter", ["full", "part"])
def test_an_adapter_gives_the_tokens_of_the_merged_model(bench: Bench, adapter: str) -> None:
    ours = run(bench.engine, greedy("a", adapter))["a"]
    theirs = run(bench.merged[adapter], greedy("a"))["a"]
    assert token_ids(ours) == token_ids(theirs)
    assert logprobs(ours) == pytest.approx(logprobs(theirs), abs=TOLERANCE)
    plain = run(bench.engine, greedy("b"))["b"]
    assert token_ids(plain) != token_ids(ours), "the adapter is strong enough for the test to tell"


def test_orders_of_different_adapters_and_of_none_share_steps(bench: Bench) -> None:
    wanted = {name: token_ids(run(bench.engine, greedy("one", name or None))["one"]) for name in ("full", "part", "")}
    orders = [
        greedy(f"{adapter}/{number}", adapter or None, prefix_partition=str(number))
        for number in range(3)
        for adapter in wanted
    ]
    before = bench.engine.stats().steps
    found = run(bench.engine, *orders)
    assert bench.engine.stats().steps - before < 60, "they ran together, not one after the other"
    for name, events in found.items():
        assert token_ids(events) == wanted[name.partition("/")[0]], name


def test_the_adapters_at_work_are_told(bench: Bench) -> None:
    bench.engine.submit(greedy("a", "full"))
    bench.engine.step(1.0)
    stats = bench.engine.stats()
    assert (stats.adapters, stats.running_adapters, stats.waiting_adapters) == (2, ("full",), ())
    run(bench.engine, greedy("b"))
    stats = bench.engine.stats()
    assert (stats.running_adapters, stats.block_tokens > 0) == ((), True)


def test_the_prefix_cache_is_never_shared_between_adapters_nor_tenants(bench: Bench) -> None:
    prompt = [200 - n % 150 for n in range(100)]
    partitions = [("bank-a", None), ("bank-a", "full"), ("bank-a", "part"), ("bank-b", "full")]
    for number, (tenant, adapter) in enumerate(partitions):
        one = greedy(f"first-{number}", adapter, prompt, prefix_partition=tenant)
        assert finish(run(bench.engine, one)[one.order_id]).cached_tokens == 0, (tenant, adapter)
    for number, (tenant, adapter) in enumerate(partitions):
        one = greedy(f"second-{number}", adapter, prompt, prefix_partition=tenant)
        assert finish(run(bench.engine, one)[one.order_id]).cached_tokens >= 96, (tenant, adapter)
    alone = run(bench.merged["full"], greedy("m", None, prompt))["m"]
    again = run(bench.engine, greedy("third", "full", prompt, prefix_partition="bank-a"))["third"]
    assert token_ids(again) == token_ids(alone), "what came from the cache was computed with this adapter"


def test_a_name_that_is_loaded_again_means_the_new_adapter_for_new_orders_only(bench: Bench) -> None:
    engine = bench.engine
    engine.load_adapter("moving", str(bench.folders["full"]))
    old = token_ids(run(engine, greedy("old", "moving"))["old"])
    engine.submit(greedy("under-way", "moving"))
    begun = list(engine.step(1.0))
    engine.load_adapter("moving", str(bench.folders["part"]))
    engine.submit(greedy("new", "moving"))
    found = drain(engine, {"under-way", "new"})
    assert token_ids([*begun, *found["under-way"]]) == old, "what runs goes on with the adapter that it began with"
    assert finish(found["new"]).cached_tokens == 0, "nothing that the old adapter computed is used again"
    assert token_ids(found["new"]) == token_ids(run(bench.merged["part"], greedy("m"))["m"])


def test_scores_and_orders_without_an_adapter_are_those_of_the_base(bench: Bench, tmp_path: Path) -> None:
    untouched = opened(bench.base, tmp_path / "ov")
    try:
        assert isinstance(bench.engine, CanLoadAdapter)
        ours, theirs = scored(bench.engine, [ScoreText(PROMPT)])[0], scored(untouched, [ScoreText(PROMPT)])[0]
        assert [row[0].logprob for row in ours] == pytest.approx([row[0].logprob for row in theirs], abs=1e-4)
        one = greedy("a")
        assert token_ids(run(bench.engine, one)["a"]) == token_ids(run(untouched, one)["a"])
    finally:
        untouched.close()


def test_rounded_weights_have_the_same_slots_in_every_form(bench: Bench, tmp_path: Path) -> None:
    """INT8 with bytes, and unpacked to single precision as processors without byte products want it for prompts."""
    prepare_openvino(bench.base, "model.safetensors", RoundOrder(precision="int8"), tmp_path)
    forms = [
        PagedModel(tmp_path / "openvino_model.xml", {}, unpack=unpack, adapters=True).slots for unpack in (False, True)
    ]
    assert forms[0] == forms[1]
    modules = [module for slot in forms[0] for module in slot.modules]
    assert len(modules) == len(set(modules)) == 14, "seven projections in each of two layers"


def test_what_cannot_be_an_adapter_is_refused_and_nothing_changes(bench: Bench, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "qwen3", "qwen3")
    cases = (
        (make_adapter(tmp_path / "a", other, seed=3), UnsupportedModel, "the adapter's"),
        (make_adapter(tmp_path / "b", bench.base, seed=3, use_dora=True), UnsupportedModel, "DoRA"),
        (tmp_path / "no-such", UnknownModel, "adapter_config.json"),
    )
    for folder, error, words in cases:
        with pytest.raises(error, match=words):
            bench.engine.load_adapter("wrong", str(folder))
    event = failure(run(bench.engine, greedy("x", "wrong"))["x"])
    assert event.code == "invalid_request" and "there is no adapter 'wrong'" in event.message
