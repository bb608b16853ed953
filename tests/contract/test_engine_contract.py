"""What every engine promises, against every engine: one suite, whatever computes underneath."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_files import demo_files
from engine_bench import GOLDEN, drain, failure, finish, order, run, token_ids
from node_lists import nodes_at
from real_vllm import RealVllm
from vllm_double import VllmDouble

from ashore.core.errors import AshoreError
from ashore.core.ids import OrderId
from ashore.core.sampling import changed_fields
from ashore.data.engines import (
    CARDS,
    CanEmbed,
    CanScore,
    CanSleep,
    CanTellDistributions,
    EngineInfo,
    EngineOptions,
    Finished,
    Grammar,
    ModelFiles,
    Sampling,
    ScoreText,
    Token,
    engine_kinds,
    make_engine,
    rest_of,
    scored,
)
from ashore.data.engines.fake.files import fake_model_files

MARKS: dict[str, tuple[pytest.MarkDecorator, ...]] = {
    "openvino": (pytest.mark.model,),
    "torch": (pytest.mark.full, pytest.mark.model),
}
KINDS = [
    pytest.param(card.kind, marks=MARKS.get(card.kind, ()))
    for card in CARDS
    if {"head", "speak"}.isdisjoint(card.features)
]
"""Every card of an engine that samples token ids: it cannot be left out. What a new one needs is a branch in `case`."""
KINDS.append(pytest.param("real vllm", marks=(pytest.mark.full, pytest.mark.model)))
"""The same adapter with a vLLM behind it that computes; see `make test-vllm`."""


@dataclass
class Case:
    """A loaded engine and what the suite needs to know of it."""

    engine: Any
    info: EngineInfo

    @property
    def prompt(self) -> list[int]:
        return [3 + n % 200 for n in range(12)]

    @property
    def long_prompt(self) -> list[int]:
        """Longer than several blocks of any prefix cache."""
        return [5 + 7 * n % 197 for n in range(150)]


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    is_real, kind = request.param == "real vllm", request.param.removeprefix("real ")
    engine = make_engine(kind)
    options: dict[str, Any] = {"kind": kind, "threads": 1}
    if kind == "fake":
        files = fake_model_files("fake:random?context=512&tokens=400&sleeps=1", tmp_path_factory.mktemp("fake"))
    elif kind == "llamacpp":
        options |= {"kv_tokens": 2048}
        files = ModelFiles(
            name="tiny", digest="", directory=str(GOLDEN), format="gguf", weights="deepseek_v3_tiny.gguf"
        )
    elif is_real:
        server: RealVllm = request.getfixturevalue("real_vllm_server")
        options |= {"extra": {**nodes_at(server.url), "api_key": server.key, "vocab_size": 49152}, "max_sequences": 8}
        files = ModelFiles(name="smol", digest="", directory="/nowhere", format="remote")
    elif kind == "vllm":
        double = VllmDouble("fake:random?context=512&tokens=400")
        request.addfinalizer(double.close)
        double.can_sleep = double.resumes = True
        options |= {"extra": {**nodes_at(double.url), "enable_sleep_mode": True}}
        files = ModelFiles(name="remote", digest="", directory=str(tmp_path_factory.mktemp("vllm")), format="remote")
    else:
        options |= {"context_tokens": 1024, "kv_tokens": 4096, "threads": 2}
        if kind == "openvino":  # what the fast mode rounds differs from processor to processor
            options |= {"extra": {"full_precision": True}}
        home: Path = request.getfixturevalue("demo_home")
        files = demo_files(home, "smollm2@int8" if kind == "openvino" else "smollm2")
    info = engine.load(files, EngineOptions(**options))
    yield Case(engine, info)
    engine.close()
    engine.close()  # twice is allowed


def needs(case: Case, *features: str) -> None:
    """Skip where the engine says itself that it cannot do this."""
    lacking = set(features) - set(case.info.features)
    if lacking:
        pytest.skip(f"{case.info.kind} does not offer {sorted(lacking)}")


def test_info_is_complete(case: Case) -> None:
    info = case.info
    assert info.kind in engine_kinds()
    assert info.version
    assert info.precision
    assert info.vocab_size > 200
    assert 0 < info.context_tokens <= info.kv_tokens
    assert info.max_sequences >= 1
    assert len(set(info.features)) == len(info.features)
    assert ("top_logprobs" in info.features) == (info.max_top_logprobs > 0)


def test_an_order_lives_from_tokens_to_its_end(case: Case) -> None:
    events = run(case.engine, order("a", case.prompt))["a"]
    assert all(isinstance(event, Token) for event in events[:-1])
    assert len(token_ids(events)) == 10
    end = finish(events)
    assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("length", 12, 10)
    assert all(0 <= token_id < case.info.vocab_size for token_id in token_ids(events))


def test_greedy_orders_repeat_alone_and_in_company(case: Case) -> None:
    prompts = [[n + 4, *case.prompt] for n in range(6)]
    alone = [token_ids(run(case.engine, order(f"alone{n}", p))[f"alone{n}"]) for n, p in enumerate(prompts)]
    together = run(case.engine, *(order(f"both{n}", p) for n, p in enumerate(prompts)))
    same = sum(token_ids(together[f"both{n}"]) == alone[n] for n in range(6))
    assert same == 6 if case.info.deterministic_seed else same >= 4  # rounding may part near-ties in a batch


def test_a_stop_token_ends_the_order_and_is_not_sent(case: Case) -> None:
    said = token_ids(run(case.engine, order("before", case.prompt))["before"])
    stop = said[4]
    first = said.index(stop)
    events = run(case.engine, order("a", case.prompt, stop_token_ids=(stop,)))["a"]
    assert token_ids(events) == said[:first]
    end = finish(events)
    assert (end.reason, end.stop_token_id, end.completion_tokens) == ("stop", stop, first)
    ignoring = run(case.engine, order("b", case.prompt, stop_token_ids=(stop,), ignore_eos=True))["b"]
    assert finish(ignoring).reason == "length"


def test_no_stop_token_comes_before_the_least_number_of_tokens(case: Case) -> None:
    needs(case, "min_tokens")
    stop = token_ids(run(case.engine, order("before", case.prompt))["before"])[4]
    held = Sampling(temperature=0, min_tokens=8)
    events = run(case.engine, order("a", case.prompt, stop_token_ids=(stop,), sampling=held))["a"]
    assert finish(events).completion_tokens >= 8 and stop not in token_ids(events)


def test_one_token_is_the_least_an_order_may_ask_for(case: Case) -> None:
    events = run(case.engine, order("one", case.prompt, max_new_tokens=1))["one"]
    assert len(token_ids(events)) == 1
    assert finish(events).reason == "length"


def test_a_cancelled_order_ends_within_a_step_and_the_others_go_on(case: Case) -> None:
    case.engine.submit(order("long", case.prompt, max_new_tokens=300))
    case.engine.submit(order("other", case.prompt, max_new_tokens=20))
    seen: list[Any] = []
    while not any(isinstance(e, Token) and e.order_id == "long" for e in seen):
        seen += case.engine.step(0.05)
    case.engine.cancel(OrderId("long"))
    after = case.engine.step(0.05)
    ends = [e for e in (*seen, *after) if isinstance(e, Finished) and e.order_id == "long"]
    assert [e.reason for e in ends] == ["cancelled"]
    rest = [*seen, *after]
    if not any(isinstance(e, Finished) and e.order_id == "other" for e in rest):
        rest += drain(case.engine, {"other"})["other"]
    mine = [e for e in rest if e.order_id == "other"]
    assert finish(mine).completion_tokens == 20
    assert not any(e.order_id == "long" for e in rest[rest.index(ends[0]) + 1 :])


def test_cancelling_before_the_first_step_and_unknown_ids(case: Case) -> None:
    case.engine.cancel(OrderId("never seen"))
    case.engine.submit(order("early", case.prompt))
    case.engine.cancel(OrderId("early"))
    case.engine.cancel(OrderId("early"))
    events = drain(case.engine, {"early"})["early"]
    assert finish(events).reason == "cancelled"
    case.engine.cancel(OrderId("early"))
    assert list(case.engine.step(0.0)) == []


def test_an_id_may_be_used_again_after_its_end(case: Case) -> None:
    for _ in range(2):
        assert finish(run(case.engine, order("again", case.prompt))["again"]).completion_tokens == 10


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"prompt_ids": []}, "invalid_request"),
        ({"prompt_ids": [1, 10_000_000]}, "invalid_request"),
        ({"prompt_ids": [1, -1]}, "invalid_request"),
        ({"prompt_ids": [5] * 20_000}, "context_length_exceeded"),
        ({"max_new_tokens": 0}, "invalid_request"),
        ({"sampling": Sampling(top_p=2.0)}, "invalid_request"),
        ({"sampling": Sampling(temperature=0, logit_bias={10_000_000: 1.0})}, "invalid_request"),
        ({"top_logprobs": 21}, "unsupported_by_engine"),
    ],
    ids=["empty", "id too large", "id negative", "too long", "no tokens", "top_p", "bias", "top_logprobs"],
)
def test_a_bad_order_fails_alone_with_its_code(case: Case, fields: dict[str, Any], code: str) -> None:
    bad = order("bad", **{"prompt_ids": case.prompt, **fields})
    events = run(case.engine, order("good", case.prompt), bad)
    assert failure(events["bad"]).code == code
    assert len(events["bad"]) == 1
    assert finish(events["good"]).completion_tokens == 10


def test_what_is_too_long_is_told_with_both_numbers(case: Case) -> None:
    event = failure(run(case.engine, order("long", [5] * 20_000))["long"])
    assert "20000" in event.message.replace(",", "")
    assert str(case.info.context_tokens) in event.message.replace(",", "")


def test_log_probabilities_have_the_promised_shape(case: Case) -> None:
    needs(case, "top_logprobs")
    events = run(
        case.engine,
        order("none", case.prompt),
        order("zero", case.prompt, top_logprobs=0),
        order("five", case.prompt, top_logprobs=5),
        order("most", case.prompt, top_logprobs=case.info.max_top_logprobs),
    )
    tokens = {name: [e for e in found if isinstance(e, Token)] for name, found in events.items()}
    assert all(t.logprob is None and t.top == () for t in tokens["none"])
    assert all(t.logprob is not None and t.top == () for t in tokens["zero"])
    for name, size in (("five", 5), ("most", case.info.max_top_logprobs)):
        for token in tokens[name]:
            values = [entry.logprob for entry in token.top]
            assert len(values) == size
            assert values == sorted(values, reverse=True)
            assert sum(map(math.exp, values)) <= 1.0001
            assert token.logprob == pytest.approx(values[0], abs=1e-4), "a greedy token is the likeliest"
            assert token.top[0].token_id == token.token_id


def test_a_seed_repeats_and_another_differs(case: Case) -> None:
    needs(case, "seed", "temperature")
    hot = {"max_new_tokens": 24, "ignore_eos": True}
    said = []
    for turn, seed in enumerate((1, 1, 2)):  # in partitions of their own: a cached prefix may round differently
        one = order("s", case.prompt, sampling=Sampling(temperature=1.5, seed=seed), prefix_partition=str(turn), **hot)
        said.append(token_ids(run(case.engine, one)["s"]))
    assert said[0] == said[1]
    assert said[0] != said[2]
    if case.info.deterministic_seed:
        company = [
            order("s", case.prompt, sampling=Sampling(temperature=1.5, seed=1), **hot),
            *(order(f"c{n}", [n + 9, *case.prompt], max_new_tokens=15) for n in range(5)),
        ]
        assert token_ids(run(case.engine, *company)["s"]) == said[0]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0),
        Sampling(temperature=0, presence_penalty=1.5, frequency_penalty=0.7, repetition_penalty=1.2),
        Sampling(temperature=0.9, top_p=0.95, seed=11, presence_penalty=0.4),
        Sampling(temperature=0, min_tokens=14),
    ],
    ids=["greedy", "penalties", "seed", "least tokens"],
)
def test_an_answer_that_began_elsewhere_goes_on_as_if_it_had_begun_here(case: Case, sampling: Sampling) -> None:
    needs(case, "resume", *changed_fields(sampling))
    stop = token_ids(run(case.engine, order("before", case.prompt, max_new_tokens=16))["before"])[9]
    asked = order("whole", case.prompt, max_new_tokens=16, sampling=sampling, stop_token_ids=(stop,))
    whole = run(case.engine, asked)["whole"]
    said, end, same = token_ids(whole), finish(whole), 0
    cuts = sorted({1, len(said) // 2, len(said) - 1})
    for cut in cuts:
        rest = rest_of(asked, said[:cut], OrderId(f"rest{cut}"))
        assert (rest.begun, rest.max_new_tokens, rest.prompt_ids) == (cut, 16 - cut, [*case.prompt, *said[:cut]])
        events = run(case.engine, rest)[f"rest{cut}"]
        again = finish(events)
        same += said[:cut] + token_ids(events) == said and (again.reason, again.stop_token_id) == (
            end.reason,
            end.stop_token_id,
        )
    assert same == len(cuts) if case.info.deterministic_seed else same >= 1, "near-ties may part"


def test_a_grammar_follows_an_answer_that_began_elsewhere(case: Case) -> None:
    needs(case, "resume", "grammar")
    if case.info.kind != "openvino":
        pytest.skip("its golden model has no tokenizer, or its grammars are a server's")
    grammar = Grammar(kind="regex", text="[ab]{3}-[0-9]{5}(x|y)")
    asked = order("whole", case.prompt, max_new_tokens=40, grammar=grammar, top_logprobs=1)
    whole = run(case.engine, asked)["whole"]
    said = token_ids(whole)
    assert finish(whole).reason == "stop" and len(said) >= 4
    for cut in {1, 3, len(said) // 2, len(said) - 1, len(said)}:
        events = run(case.engine, rest_of(asked, said[:cut], OrderId("rest")))["rest"]
        assert said[:cut] + token_ids(events) == said and finish(events).reason == "stop"
    wrong = rest_of(asked, [*said[:2], *case.prompt], OrderId("wrong"))
    assert failure(run(case.engine, wrong)["wrong"]).code == "invalid_grammar"
    assert case.engine.stats().running == case.engine.stats().waiting == 0


def test_without_a_seed_two_orders_differ(case: Case) -> None:
    needs(case, "temperature")
    hot = {"max_new_tokens": 24, "ignore_eos": True, "sampling": Sampling(temperature=1.5)}
    events = run(case.engine, order("a", case.prompt, **hot), order("b", case.prompt, **hot))
    assert token_ids(events["a"]) != token_ids(events["b"])


def test_a_bias_forbids_and_forces(case: Case) -> None:
    needs(case, "logit_bias")
    said = token_ids(run(case.engine, order("before", case.prompt))["before"])
    events = run(
        case.engine,
        order("banned", case.prompt, sampling=Sampling(temperature=0, logit_bias={said[0]: -100.0})),
        order("forced", case.prompt, sampling=Sampling(temperature=0, logit_bias={77: 100.0})),
    )
    assert said[0] not in token_ids(events["banned"])
    assert token_ids(events["forced"]) == [77] * 10


def test_what_the_engine_lacks_fails_and_is_named(case: Case) -> None:
    asks: dict[str, dict[str, Any]] = {
        "grammar": {"grammar": Grammar(kind="regex", text="[0-9]+")},
        "adapters": {"adapter": "no-such-adapter"},
    }
    for feature, fields in asks.items():
        if feature not in case.info.features:
            event = failure(run(case.engine, order("x", case.prompt, **fields))["x"])
            assert event.code == "unsupported_by_engine"
            assert case.info.kind in event.message


def test_the_prefix_cache_is_shared_within_a_partition_only(case: Case) -> None:
    def cached(name: str, partition: str, tail: list[int]) -> int:
        events = run(case.engine, order(name, [*case.long_prompt, *tail], prefix_partition=partition))
        told = [event.cached_tokens for event in events[name] if isinstance(event, Token)]
        assert told == [finish(events[name]).cached_tokens] + [0] * (len(told) - 1)
        return told[0]

    if case.info.kind == "vllm":
        pytest.skip("the double pretends, and vLLM itself is told the partition as cache_salt; see test_vllm_engine")
    assert cached("first", "bank-a", [9]) == 0
    assert cached("same", "bank-a", [9]) >= 100
    assert cached("continued", "bank-a", [9, 10, 11]) >= 100
    assert cached("other tenant", "bank-b", [9]) == 0
    assert cached("other tenant again", "bank-b", [9]) >= 100


def test_a_cached_prefix_changes_no_token(case: Case) -> None:
    first, second = (
        token_ids(run(case.engine, order(name, case.long_prompt, prefix_partition="p"))[name]) for name in ("a", "b")
    )
    assert first == second


def test_an_idle_step_waits_and_returns_in_time(case: Case) -> None:
    started_s, before_s = time.perf_counter(), time.process_time()
    assert list(case.engine.step(0.2)) == []
    assert 0.1 <= time.perf_counter() - started_s < 10
    assert time.process_time() - before_s < 0.15, "an idle step spins"


def test_stats_count_what_was_done(case: Case) -> None:
    before = case.engine.stats()
    run(case.engine, order("a", case.prompt), order("b", case.prompt))
    after = case.engine.stats()
    assert (after.running, after.waiting) == (0, 0)
    assert after.completion_tokens - before.completion_tokens == 20
    assert after.prompt_tokens - before.prompt_tokens == 24
    assert 0 <= after.kv_tokens_used <= after.kv_tokens_total
    case.engine.submit(order("c", case.prompt, max_new_tokens=200, ignore_eos=True))
    case.engine.step(0.05)
    assert case.engine.stats().running + case.engine.stats().waiting == 1
    case.engine.cancel(OrderId("c"))
    drain(case.engine, {"c"})


def test_one_that_slept_answers_as_before(case: Case) -> None:
    needs(case, "sleep")
    assert isinstance(case.engine, CanSleep)
    before = token_ids(run(case.engine, order("before", case.prompt))["before"])
    for _ in range(2):  # each may be called twice
        case.engine.sleep()
        case.engine.sleep()
        case.engine.wake()
        case.engine.wake()
    assert token_ids(run(case.engine, order("after", case.prompt))["after"]) == before


def test_scores_agree_with_what_generation_tells(case: Case) -> None:
    needs(case, "score")
    assert isinstance(case.engine, CanScore)
    events = run(case.engine, order("a", case.prompt, top_logprobs=1))["a"]
    said = [e for e in events if isinstance(e, Token)]
    [rows] = scored(case.engine, [ScoreText([*case.prompt, *token_ids(events)])], top_logprobs=2)
    assert [row[0].token_id for row in rows] == [*case.prompt[1:], *token_ids(events)]
    assert {len(row) for row in rows} == {3}
    if case.info.kind not in ("fake", "vllm"):  # the fake, which stands behind the double too, salts by prompt
        for row, token in zip(rows[11:], said, strict=True):
            assert row[0].logprob == pytest.approx(token.logprob, abs=0.1)
    events = run(case.engine, order("z", case.prompt, top_logprobs=0))["z"]  # what a comparison of releases asks for
    [rows] = scored(case.engine, [ScoreText([*case.prompt, *token_ids(events)], len(case.prompt))])
    for row, token in zip(rows, [e for e in events if isinstance(e, Token)], strict=True):
        assert row[0].logprob == pytest.approx(token.logprob, abs=0.1)
    with pytest.raises(AshoreError):
        scored(case.engine, [ScoreText([1, 10_000_000])])
    for ids, start in (([1], 1), ([1, 2], 0), ([1, 2], 2), ([], 1), ([1] * (case.info.context_tokens + 1), 1)):
        with pytest.raises(AshoreError):
            scored(case.engine, [ScoreText([1, 2]), ScoreText(ids, start)])


def test_texts_scored_together_are_scored_as_each_alone(case: Case) -> None:
    needs(case, "score")
    stem = case.long_prompt
    texts = [
        ScoreText([*stem[:20], 90], 20),
        *(ScoreText([*stem, 40 + n, 50 + n, 60], 150) for n in range(4)),
        ScoreText([*stem[:100], 7, 8, 9], 95),
        ScoreText([3, 4]),
        ScoreText([*stem, 41, 51, 60], 150),
        ScoreText(stem),
    ]
    before = case.engine.stats()
    together = scored(case.engine, texts, top_logprobs=1)
    computed = case.engine.stats().scored_tokens - before.scored_tokens
    assert [len(rows) for rows in together] == [len(text.ids) - text.start for text in texts]
    for text, rows in zip(texts, together, strict=True):
        [alone] = scored(case.engine, [text], top_logprobs=1)
        assert [row[0].token_id for row in rows] == text.ids[text.start :]
        for one, other in zip(rows, alone, strict=True):
            assert one[0].logprob == pytest.approx(other[0].logprob, abs=0.05)
    if case.info.kind not in ("fake", "vllm"):  # theirs is another's affair
        assert computed < 0.5 * sum(len(text.ids) for text in texts)
    assert case.engine.stats().kv_tokens_used == before.kv_tokens_used


def test_distributions_hold_what_scores_tell(case: Case) -> None:
    needs(case, "distributions")
    assert isinstance(case.engine, CanTellDistributions) and isinstance(case.engine, CanScore)
    text = ScoreText(case.long_prompt, 90)
    rows_NV = np.concatenate(list(case.engine.distributions(text)))
    assert rows_NV.shape == (60, case.info.vocab_size)
    assert np.exp(rows_NV.astype(np.float64)).sum(axis=1) == pytest.approx(1.0, abs=1e-3)
    [rows] = scored(case.engine, [text], top_logprobs=1)
    assert [rows_NV[n, row[0].token_id] for n, row in enumerate(rows)] == pytest.approx(
        [row[0].logprob for row in rows], abs=0.02
    )
    assert [rows_NV[n].max() for n in range(60)] == pytest.approx([row[1].logprob for row in rows], abs=0.02)


def test_embeddings_are_unit_vectors(case: Case) -> None:
    needs(case, "embed")
    assert isinstance(case.engine, CanEmbed)
    vectors = case.engine.embed([[5, 6, 7], [5, 6, 7], [90, 91, 92, 93]])
    assert {len(vector) for vector in vectors} == {case.info.embedding_size}
    assert all(sum(x * x for x in vector) == pytest.approx(1.0, abs=1e-3) for vector in vectors)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)
    assert vectors[0] != pytest.approx(vectors[2], abs=1e-3)


def test_many_orders_more_than_run_at_once_all_end(case: Case) -> None:
    orders = [order(f"o{n}", [n % 150 + 3, *case.prompt], max_new_tokens=4) for n in range(80)]
    events = run(case.engine, *orders)
    assert all(finish(events[one.order_id]).completion_tokens == 4 for one in orders)
