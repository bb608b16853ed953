"""The OpenVINO engine on the real demo model: right tokens, right limits, nobody pays for another's order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from msgspec.structs import replace

from ashore.core.clock import SystemClock
from ashore.core.errors import CorruptBlob, InvalidSpec, KvCacheExhausted, UnsupportedByEngine, UnsupportedModel
from ashore.core.ids import OrderId
from ashore.data.engines import (
    CanEmbed,
    CanScore,
    EngineOptions,
    Failed,
    Finished,
    GenerateOrder,
    Grammar,
    ModelFiles,
    Rung,
    Sampling,
    ScoreText,
    Token,
    scored,
)
from ashore.data.engines.frames import Score, Scores, ToWorker
from ashore.data.engines.host.calls import TURN_PIECES, Calls
from ashore.data.engines.host.link import Link
from ashore.data.engines.openvino.engine import OpenVinoEngine
from ashore.data.engines.openvino.prepare import prepare_openvino
from ashore.data.engines.rounding import RoundOrder
from ashore.data.engines.sampling.lookup import StepCost
from ashore.data.text import TextModel
from ashore.kit.store import ModelStore

pytestmark = pytest.mark.model

GREEDY = Sampling(temperature=0)
GOLDEN = Path(__file__).parents[1] / "golden" / "greedy.json"
NEAR_TIE = 0.02
"""Two logits closer than this may change places between two ways of adding the same numbers."""


def opened(home: Path, reference: str, run: Path) -> ModelFiles:
    on_disk = ModelStore(home / "store", run, SystemClock()).open(reference)
    return ModelFiles(
        name=reference,
        digest=on_disk.digest,
        directory=str(on_disk.directory),
        format=on_disk.format,
        weights=on_disk.weights,
    )


@pytest.fixture(scope="module")
def files(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return opened(demo_home, "smollm2@int8", tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def engine(files: ModelFiles) -> Iterator[OpenVinoEngine]:
    engine = OpenVinoEngine()
    engine.load(files, EngineOptions(kind="openvino", kv_tokens=8192, max_sequences=32))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def text(files: ModelFiles) -> TextModel:
    return TextModel.load(Path(files.directory))


def order(name: str, prompt: list[int], new_tokens: int = 12, **fields: object) -> GenerateOrder:
    return GenerateOrder(
        **{  # type: ignore[arg-type]
            "order_id": OrderId(name),
            "prompt_ids": prompt,
            "max_new_tokens": new_tokens,
            "sampling": GREEDY,
            "ignore_eos": True,
            **fields,
        }
    )


def run(
    engine: OpenVinoEngine, *orders: GenerateOrder, steps: int = 3000
) -> dict[str, list[Token | Finished | Failed]]:
    """Submit the orders, step until each has ended, and return the events of each."""
    for one in orders:
        engine.submit(one)
    found: dict[str, list[Token | Finished | Failed]] = {str(o.order_id): [] for o in orders}
    for _ in range(steps):
        for event in engine.step(1.0):
            found[str(event.order_id)].append(event)
        if all(events and not isinstance(events[-1], Token) for events in found.values()):
            return found
    raise AssertionError("the orders did not end")


def tokens(events: list[Token | Finished | Failed]) -> list[int]:
    return [e.token_id for e in events if isinstance(e, Token)]


def failure(events: list[Token | Finished | Failed]) -> Failed:
    (event,) = events
    assert isinstance(event, Failed)
    return event


@pytest.fixture(scope="module")
def halves(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """Return the demo model in half precision."""
    folder = tmp_path_factory.mktemp("halves")
    parent = opened(demo_home, "smollm2", folder / "run")
    prepare_openvino(Path(parent.directory), parent.weights, RoundOrder(precision="fp16"), folder / "fp16")
    return ModelFiles(
        name="smollm2@fp16",
        digest="",
        directory=str(folder / "fp16"),
        format="openvino",
        weights="openvino_model.xml",
    )


def test_a_long_prompt_goes_on_in_small_steps_while_another_tenant_asks(files: ModelFiles) -> None:
    engine = OpenVinoEngine()
    engine.load(files, EngineOptions(kind="openvino", kv_tokens=8192, extra={"max_stall_ms": 1}))
    try:
        long = [at * 7919 % 40000 for at in range(512)]
        run(engine, order("b1", long[:30], 1, tenant="b"))
        engine.submit(order("a", long, 1, tenant="a"))
        engine.step(1.0)
        engine.submit(order("b2", long[:30], 1, tenant="b"))
        before = engine.stats()
        assert [str(event.order_id) for event in engine.step(1.0)] == ["b2", "b2"]
        while engine.stats().running:
            engine.step(1.0)
        assert engine.stats().steps - before.steps == 1 + 512 // 32 - 1, "32 tokens are the fewest of a step"
    finally:
        engine.close()


def test_full_precision_agrees_with_torch_on_fifty_prompts(halves: ModelFiles) -> None:
    engine = OpenVinoEngine()
    info = engine.load(halves, EngineOptions(kind="openvino", kv_tokens=16384, extra={"full_precision": True}))
    assert (info.precision, info.deterministic_seed) == ("fp32", True)
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
    orders = [order(str(i), case["prompt_ids"], len(case["tokens"])) for i, case in enumerate(cases)]
    answers = run(engine, *orders)
    whole = 0
    for index, case in enumerate(cases):
        got = tokens(answers[str(index)])
        parted = next((i for i, (a, b) in enumerate(zip(got, case["tokens"], strict=True)) if a != b), None)
        whole += parted is None
        if parted is not None:
            assert case["margins"][parted] < NEAR_TIE, f"prompt {index} parts at token {parted}"
    assert whole >= 45
    # A seed gives the same answer alone and in company.
    seeded = order("seeded", cases[0]["prompt_ids"], 24, sampling=Sampling(temperature=0.8, seed=11))
    alone = tokens(run(engine, seeded)["seeded"])
    company = [order(f"c{i}", cases[i]["prompt_ids"], 24, sampling=Sampling(temperature=1)) for i in range(1, 8)]
    assert tokens(run(engine, *company, seeded)["seeded"]) == alone
    engine.close()


def test_int8_answers_the_question(engine: OpenVinoEngine, text: TextModel) -> None:
    prompt = text.encode(
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n", allow_special=True
    )
    events = run(engine, order("q", prompt, 40, ignore_eos=False, stop_token_ids=text.eos_token_ids))["q"]
    assert "Paris" in text.decode(tokens(events))
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.reason == "stop"
    assert end.stop_token_id in text.eos_token_ids
    assert end.completion_tokens == len(tokens(events))


def test_orders_beyond_the_limits_fail_alone(engine: OpenVinoEngine) -> None:
    context, vocab = 8192, 49152
    bad = {
        "empty": (order("empty", []), "invalid_request"),
        "beyond": (order("beyond", [5, vocab]), "invalid_request"),
        "negative": (order("negative", [-1]), "invalid_request"),
        "bias": (order("bias", [5], sampling=Sampling(logit_bias={vocab: 1.0})), "invalid_request"),
        "none": (order("none", [5], 0), "invalid_request"),
        "long": (order("long", [5] * context, 1), "context_length_exceeded"),
        "many": (order("many", [5], top_logprobs=21), "unsupported_by_engine"),
        "hot": (order("hot", [5], sampling=Sampling(temperature=-1)), "invalid_request"),
        "adapter": (order("adapter", [5], adapter="x"), "invalid_request"),
        "grammar": (order("grammar", [5], grammar=Grammar(kind="regex", text="(a")), "invalid_grammar"),
    }
    found = run(engine, order("good", [504, 3575], 8), *(o for o, _ in bad.values()))
    assert {name: failure(found[name]).code for name in bad} == {name: code for name, (_, code) in bad.items()}
    assert len(tokens(found["good"])) == 8
    long = failure(found["long"]).message
    assert str(context) in long


def test_an_id_that_is_live_is_refused(engine: OpenVinoEngine) -> None:
    engine.submit(order("twice", [504], 4))
    engine.submit(order("twice", [505], 4))
    events = [e for _ in range(8) for e in engine.step(0.01)]
    assert [e.code for e in events if isinstance(e, Failed)] == ["conflict"]
    assert len([e for e in events if isinstance(e, Token)]) == 4


def test_cancel_ends_within_one_step_and_frees_everything(engine: OpenVinoEngine) -> None:
    used = engine.stats().kv_tokens_used
    engine.submit(order("gone", [504] * 50, 100))
    for _ in range(3):
        engine.step(0.1)
    engine.cancel(OrderId("gone"))
    engine.cancel(OrderId("gone"))
    engine.cancel(OrderId("never was"))
    (event,) = engine.step(0)
    assert isinstance(event, Finished)
    assert (event.reason, event.prompt_tokens) == ("cancelled", 50)
    assert engine.stats().kv_tokens_used == used
    assert engine.stats().running == 0


def test_log_probabilities_agree_with_scoring(engine: OpenVinoEngine) -> None:
    assert isinstance(engine, CanScore)
    prompt = [504, 3575, 282, 4649, 314]
    events = [e for e in run(engine, order("lp", prompt, 10, top_logprobs=20))["lp"] if isinstance(e, Token)]
    [rows] = scored(engine, [ScoreText([*prompt, *(e.token_id for e in events)])], top_logprobs=20)
    assert len(rows) == len(prompt) + 9
    for event, (chosen, *best) in zip(events, rows[len(prompt) - 1 :], strict=True):
        assert event.logprob == pytest.approx(chosen.logprob, abs=0.5)  # the fast mode; exact in the contract suite
        assert len(event.top) == len(best) == 20
        assert event.top[0].token_id == event.token_id
        assert event.top[0].logprob == event.logprob
        assert sum(np.exp(t.logprob) for t in event.top) < 1.0001
    (plain,) = run(engine, order("lp0", prompt, 1, top_logprobs=0))["lp0"][:1]
    assert isinstance(plain, Token)
    assert plain.logprob is not None
    assert plain.top == ()


def test_scores_that_gave_way_to_another_tenant_are_those_of_one_piece(engine: OpenVinoEngine) -> None:
    told: dict[int, list[tuple[int, float]]] = {}
    ended: list[int] = []

    def take(_: Link, message: ToWorker) -> None:
        assert isinstance(message, Scores)
        if message.last:
            ended.append(message.call_id)
        elif message.call_id == 1:
            rows = [(row[0].token_id, row[0].logprob) for row in message.rows]
            told.setdefault(message.place, []).extend(rows)

    texts = [ScoreText([504, *range(300 + at, 400 + at)], 5) for at in range(16)]
    calls, link = Calls(engine, "openvino", take), cast(Link, SimpleNamespace(has_backlog=False))
    calls.add_score(link, Score(1, texts, tenant="bank-b"))
    for _ in range(TURN_PIECES + 1):
        calls.run_slice()
    calls.add_score(link, Score(2, [ScoreText([504, 3575])], tenant="bank-a"))
    while calls:
        calls.run_slice()
    assert ended == [2, 1]
    for at, rows in enumerate(scored(engine, texts)):
        assert [one for one, _ in told[at]] == texts[at].ids[5:]
        apart = np.array([one for _, one in told[at]]) - [row[0].logprob for row in rows]
        assert np.abs(apart).mean() < 0.2  # the fast mode rounds by what is computed beside


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.2, seed=5)])
def test_grammars_hold_and_end_the_answer(engine: OpenVinoEngine, text: TextModel, sampling: Sampling) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "people": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    prompt = text.encode("The capital of France as JSON:")
    grammar = Grammar(kind="json_schema", text=json.dumps(schema))
    found = run(
        engine,
        order(
            "json", prompt, 60, grammar=grammar, sampling=sampling, ignore_eos=False, stop_token_ids=text.eos_token_ids
        ),
        order("date", prompt, 60, grammar=Grammar(kind="regex", text=r"\d{4}-\d{2}"), sampling=sampling),
        order("free", prompt, 20, sampling=sampling),
    )
    answer = json.loads(text.decode(tokens(found["json"])))
    assert answer["city"] in ("Paris", "Rome")
    assert 0 <= answer["people"] <= 9
    date = text.decode(tokens(found["date"]))
    assert len(date) == 7
    assert date[4] == "-"
    assert all(isinstance(found[n][-1], Finished) and found[n][-1].reason == "stop" for n in ("json", "date"))
    assert len(tokens(found["free"])) == 20


def test_a_prefix_hit_changes_neither_answer_nor_stays_with_another_tenant(files: ModelFiles) -> None:
    engine = OpenVinoEngine()
    engine.load(files, EngineOptions(kind="openvino", kv_tokens=4096, extra={"full_precision": True}))
    system = [(i * 7919) % 40000 + 100 for i in range(150)]
    first = run(engine, order("first", [*system, 504, 3575], 12, prefix_partition="bank"))["first"]
    again = run(engine, order("again", [*system, 504, 3575], 12, prefix_partition="bank"))["again"]
    other = run(engine, order("other", [*system, 504, 3575], 12, prefix_partition="clinic"))["other"]
    cached = [e[-1].cached_tokens for e in (first, again, other) if isinstance(e[-1], Finished)]
    engine.close()
    assert cached == [0, 151, 0]
    assert tokens(first) == tokens(again) == tokens(other)


def test_tokens_looked_up_change_no_answer_and_leave_nothing_in_the_cache(
    files: ModelFiles, text: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepCost, "begin", lambda *_: None)  # however busy this machine is
    monkeypatch.setattr(StepCost, "note", lambda *_: None)
    engine = OpenVinoEngine()
    options = {"full_precision": True, "lookup": True}
    engine.load(files, EngineOptions(kind="openvino", kv_tokens=4096, extra=options))
    said = "The quick brown fox, aged 42, jumps over 17 lazy dogs; then 42 foxes jump over the quick brown dog. "
    prompt = text.encode(3 * said)
    kinds: dict[str, dict[str, object]] = {
        "penalised": {"sampling": Sampling(temperature=0, frequency_penalty=0.2, logit_bias={prompt[0]: -2.0})},
        "grammar": {"grammar": Grammar(kind="regex", text="The quick brown fox, aged [0-9]{1,3}, jumps.{0,40}")},
        "sampled": {"sampling": Sampling(temperature=0.5, seed=5)},
        "greedy": {"top_logprobs": 3},
    }
    for kind, fields in kinds.items():
        plain = run(engine, order(f"{kind} off", prompt, 24, lookup=False, **fields))[f"{kind} off"]
        before = engine.stats()
        looked_up = run(engine, order(f"{kind} on", prompt, 24, **fields))[f"{kind} on"]
        after = engine.stats()
        assert tokens(looked_up) == tokens(plain)
        for one, other in zip(looked_up, plain, strict=True):
            if isinstance(one, Token) and isinstance(other, Token) and one.logprob is not None:
                assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        accepted = sum(one.accepted for one in looked_up if isinstance(one, Token))
        assert after.accepted_tokens - before.accepted_tokens == accepted
        if kind != "penalised":
            assert accepted > 0, kind
            assert after.proposed_tokens - before.proposed_tokens >= accepted
        if kind in ("sampled", "greedy"):  # a grammar that answers late takes another step
            assert after.steps - before.steps <= 24 - accepted
    # What follows the answer finds its blocks, with no trace of rejected tokens in them.
    longer = [*prompt, *tokens(looked_up), 504]
    warm = run(engine, order("warm", longer, 8, lookup=False))["warm"]
    cold = run(engine, order("cold", longer, 8, lookup=False, prefix_partition="another"))["cold"]
    assert isinstance(warm[-1], Finished)
    assert warm[-1].cached_tokens > len(prompt)
    assert tokens(warm) == tokens(cold)
    engine.close()


def test_a_cache_too_small_is_shared_by_turns_and_an_order_too_large_fails_alone(files: ModelFiles) -> None:
    engine = OpenVinoEngine()
    engine.load(files, EngineOptions(kind="openvino", kv_tokens=256, context_tokens=4096, extra={"second_form": False}))
    small = [order(str(i), [504 + i, 3575, 282], 80) for i in range(5)]
    found = run(engine, *small)
    assert all(len(tokens(events)) == 80 for events in found.values())
    assert engine.stats().preemptions > 0
    large = run(engine, order("large", [504] * 100, 156))["large"]
    assert isinstance(large[-1], Finished)
    engine._pace.max_batch_tokens = 64
    pieces = engine.score([ScoreText([504] * 200)])
    next(pieces)  # what it borrowed goes to a sequence that cannot go on without it
    assert len(tokens(run(engine, order("beside", [504] * 100, 156))["beside"])) == len(tokens(large))
    with pytest.raises(KvCacheExhausted, match="running sequences"):
        list(pieces)
    engine.close()


def test_memory_that_is_asked_for_and_not_there_is_named(files: ModelFiles) -> None:
    engine = OpenVinoEngine()
    with pytest.raises(InvalidSpec, match="speed"):
        engine.load(files, EngineOptions(kind="openvino", extra={"speed": 1}))
    with pytest.raises(Exception, match="KV cache need"):
        engine.load(files, EngineOptions(kind="openvino", kv_tokens=10**12))


def test_embeddings_are_unit_vectors_whatever_else_is_in_the_batch(demo_home: Path, tmp_path: Path) -> None:
    engine = OpenVinoEngine()
    files = opened(demo_home, "minilm", tmp_path)
    info = engine.load(files, EngineOptions(kind="openvino"))
    assert isinstance(engine, CanEmbed)
    assert info.embedding_size == 384
    texts = [[101, 2000 + i, 2003 + i * 3, 102] + [2100] * i for i in range(12)]
    together = np.array(engine.embed(texts))
    alone = np.array([engine.embed([t])[0] for t in texts])
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-3)
    assert np.abs(together - alone).max() < 0.02
    with pytest.raises(UnsupportedByEngine):
        scored(engine, [ScoreText([1, 2, 3])])
    engine.close()


def test_rungs_answer_as_their_precisions_do_alone_and_whole_steps_change(
    files: ModelFiles, halves: ModelFiles, text: TextModel
) -> None:
    options = EngineOptions(kind="openvino", kv_tokens=8192, max_sequences=16)
    prompts = [text.encode(one) for one in ("The capital of France is", "def fibonacci(n):", "Water boils at")]
    prompts.append(text.encode("Write a short poem about the sea."))

    def answers(
        engine: OpenVinoEngine, name: str, least: str = "", fall_at: int = -1
    ) -> tuple[list[list[int]], list[str]]:
        """Return tokens, and what is told of precisions; the rung falls in step `fall_at`."""
        for number, prompt in enumerate(prompts):
            engine.submit(order(f"{name}{number}", prompt, 48, min_precision=least, prefix_partition=name))
        made: dict[str, list[int]] = {f"{name}{number}": [] for number in range(len(prompts))}
        told: list[str] = []
        left, steps = len(prompts), 0
        while left:
            if steps == fall_at and engine._ladder is not None:
                engine._ladder.rung, engine._ladder._since_s = 1, float("inf")  # and it stays there
            for event in engine.step(0.05):
                if isinstance(event, Token):
                    made[event.order_id].append(event.token_id)
                elif isinstance(event, Rung):
                    told.append(f"{event.order_id} {event.precision} from {len(made[event.order_id])}")
                else:
                    assert isinstance(event, Finished), event
                    left -= 1
            steps += 1
        return list(made.values()), told

    alone = {}
    for one in (halves, files):
        engine = OpenVinoEngine()
        precision = engine.load(one, options).precision
        alone[precision] = answers(engine, "alone")[0]
        engine.close()
    assert alone["fp16"] != alone["int8"]

    slow = replace(options, extra={"rung_ttft_ms": 60_000, "rung_tpot_ms": 60_000})  # nothing is too late
    engine = OpenVinoEngine()
    assert engine.load(replace(halves, rungs=(files,)), slow).rungs == ("fp16", "int8")
    assert engine._ladder is not None
    top, lowest = engine._ladder.costs
    assert lowest.step == 1 <= top.step and lowest.prompt == 1 <= top.prompt
    high, told = answers(engine, "high")
    assert high == alone["fp16"] and told == [f"high{n} fp16 from 0" for n in range(len(prompts))]
    mixed, told = answers(engine, "mixed", fall_at=8)
    assert told[len(prompts) :] == [f"mixed{n} int8 from 8" for n in range(len(prompts))]
    assert [one[:8] for one in mixed] == [one[:8] for one in alone["fp16"]]
    assert answers(engine, "low") == (alone["int8"], [f"low{n} int8 from 0" for n in range(len(prompts))])
    assert answers(engine, "floor", "fp16") == (alone["fp16"], [f"floor{n} fp16 from 0" for n in range(len(prompts))])
    assert not engine.stats().cached_tokens, "no rung finds blocks of another"
    assert answers(engine, "high", "fp16")[1] == [f"high{n} fp16 from 0" for n in range(len(prompts))]
    assert engine.stats().cached_tokens, "but its own"
    assert engine.stats().rung == 1 and set(engine.stats().rung_tokens) == {"fp16", "int8"}
    engine.submit(order("wrong", prompts[0], min_precision="int4"))
    failed = engine.step(0.05)[0]
    assert isinstance(failed, Failed) and "fp16, int8" in failed.message
    with pytest.raises(UnsupportedByEngine, match="ladder"):
        engine.load_adapter("tone", "/nowhere")
    engine.close()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + os.urandom(64))
    with pytest.raises(CorruptBlob, match="not a complete GGUF"):
        prepare_openvino(tmp_path, "model.gguf", RoundOrder(precision="fp16"), tmp_path / "out")
    with pytest.raises(UnsupportedModel, match="neither"):
        prepare_openvino(tmp_path, "pytorch_model.bin", RoundOrder(precision="fp16"), tmp_path / "out")
