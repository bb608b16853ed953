"""The decisions of tuning."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.data.engines import EngineOptions
from ashore.data.engines.tuning import GOALS, Candidate, Goal, Machine, Measured, Round, TunedChoice
from ashore.data.engines.tuning.rules import (
    NOISE,
    by_promise,
    cautious,
    choose,
    contenders,
    explain,
    fewer_threads,
    figures,
    frontier,
    leaner,
    stale,
    thread_counts,
    tokens_for,
    unlike,
    with_threads,
)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Return whether `a` is at least as good as `b` in both and better in one."""
    return a[0] >= b[0] and a[1] >= b[1] and a != b


def row(one: float, many: float, *, name: str = "", rounds: int = 1, threads: int = 2) -> Measured:
    """A measured candidate with these figures."""
    seen = Round(one_tok_per_s=one, four_tok_per_s=2 * one, sixteen_tok_per_s=many, prefill_tok_per_s=1000, ttft_ms=30)
    options = EngineOptions(kind="fake", threads=threads, extra={"name": name or f"{one}/{many}"})
    candidate = Candidate(kind="fake", variant="", precision="fake", options=options)
    return Measured(candidate=candidate, engine="fake 1", start_s=0.1, rounds=(seen,) * rounds)


speeds = st.floats(min_value=0.1, max_value=1e5)
points = st.lists(st.tuples(speeds, speeds), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("given_points", "expected"),
    [
        ([], ()),
        ([(100, 700)], (0,)),
        ([(100, 700), (90, 800)], (0, 1)),
        ([(90, 800), (100, 700)], (1, 0)),
        ([(100, 700), (90, 600)], (0,)),
        ([(100, 700), (100, 600)], (0,)),
        ([(100, 700), (90, 700)], (0,)),
        ([(100, 700), (100, 700)], (0, 1)),
        ([(147, 405), (101, 760), (112, 834), (71, 666)], (0, 2)),
    ],
)
def test_frontier(given_points: list[tuple[float, float]], expected: tuple[int, ...]) -> None:
    assert frontier(given_points) == expected


@given(points)
def test_frontier_is_exactly_what_nothing_dominates(given_points: list[tuple[float, float]]) -> None:
    expected = {i for i, p in enumerate(given_points) if not any(dominates(q, p) for q in given_points)}
    assert set(frontier(given_points)) == expected
    alone = [given_points[i][0] for i in frontier(given_points)]
    assert alone == sorted(alone, reverse=True)


@given(points, st.sampled_from(GOALS))
def test_the_choice_lies_on_the_frontier_and_near_the_best(given_points: list[tuple[float, float]], goal: Goal) -> None:
    rows = [row(one, many) for one, many in given_points]
    chosen = figures(choose(rows, goal))
    assert not any(dominates(p, chosen) for p in given_points)
    if goal == "latency":
        assert chosen[0] >= max(p[0] for p in given_points) * (1 - NOISE)
    elif goal == "throughput":
        assert chosen[1] >= max(p[1] for p in given_points) * (1 - NOISE)
    else:
        assert chosen[0] * chosen[1] == max(p[0] * p[1] for p in given_points)


@pytest.mark.parametrize(
    ("goal", "expected"),
    [("latency", (147, 405)), ("throughput", (112, 834)), ("balanced", (112, 834))],
)
def test_choices_among_engines_of_one_machine(goal: Goal, expected: tuple[float, float]) -> None:
    rows = [row(147, 405), row(101, 760), row(112, 834), row(71, 666)]
    assert figures(choose(rows, goal)) == expected


def test_a_difference_within_noise_does_not_cost_a_real_one() -> None:
    rows = [row(100, 400), row(98, 800)]
    assert figures(choose(rows, "latency")) == (98, 800)
    rows = [row(100, 400), row(96, 800)]
    assert figures(choose(rows, "latency")) == (100, 400)
    rows = [row(50, 800), row(100, 790)]
    assert figures(choose(rows, "throughput")) == (100, 790)


def test_by_promise_takes_the_goals_in_turn() -> None:
    fast, busy, both = row(200, 100), row(50, 900), row(150, 800)
    assert by_promise([row(10, 10), busy, both, fast]) == (fast, busy, both, row(10, 10))


def test_who_may_still_be_the_best_stays_in_the_race() -> None:
    leader = row(100, 700, name="a", rounds=9)
    seen_once, too_slow = row(95, 400, name="b"), row(80, 400, name="c")
    assert contenders((leader, seen_once, too_slow)) == (leader, seen_once)
    assert contenders((leader, row(93, 400, name="b", rounds=16))) == (leader,)
    assert contenders(()) == ()


@given(points)
def test_what_would_be_chosen_is_in_the_race(given_points: list[tuple[float, float]]) -> None:
    rows = [row(one, many, name=str(i), rounds=1 + i % 5) for i, (one, many) in enumerate(given_points)]
    racing = contenders(rows)
    for measure in (lambda p: p[0], lambda p: p[1], lambda p: p[0] * p[1]):
        assert max(rows, key=lambda r: measure(cautious(r))) in racing


@pytest.mark.parametrize(
    ("cores", "counts"),
    [(1, (1,)), (2, (2, 1)), (4, (4, 3, 2, 1)), (6, (6, 3, 1)), (64, (64, 32, 16, 8, 4, 2, 1))],
)
def test_thread_counts(cores: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(cores) == counts


def test_fewer_threads_are_tried_of_the_best_only_and_once() -> None:
    best = (row(10, 10, name="a", threads=4), row(9, 11, name="b", threads=4))
    found = fewer_threads(best, [best[0].candidate.label, with_threads(best[1].candidate, 2).label], cores=4)
    assert [(c.options.extra["name"], c.options.threads) for c in found] == [
        ("a", 3), ("b", 3), ("a", 2), ("a", 1), ("b", 1),
    ]  # fmt: skip


def test_one_lucky_round_is_not_chosen_over_a_long_look_unless_it_is_far_better() -> None:
    known = row(100, 800, rounds=9)
    assert cautious(known) == pytest.approx((100 * (1 - 0.1 / 3), 800 * (1 - 0.1 / 3)))
    assert choose([row(104, 830, rounds=1), known], "throughput") == known
    far_better = row(90, 950, rounds=1)
    assert choose([far_better, known], "throughput") == far_better
    assert choose([far_better, known], "latency") == known


@pytest.mark.parametrize(("rate", "tokens"), [(0.5, 8), (20, 20), (100, 64), (0, 8)])
def test_a_round_lasts_about_as_long_on_a_slow_model(rate: float, tokens: int) -> None:
    assert tokens_for(rate, target_s=1.0) == tokens


def test_the_median_of_rounds_is_what_counts() -> None:
    rounds = tuple(
        Round(one_tok_per_s=v, four_tok_per_s=v, sixteen_tok_per_s=10 * v, prefill_tok_per_s=v, ttft_ms=v)
        for v in (1.0, 100.0, 3.0)
    )
    measured = msgspec.structs.replace(row(1, 1), rounds=rounds)
    assert figures(measured) == (3.0, 30.0)


HERE = Machine(cpu="EPYC", cores=2, versions={"openvino": "2026.4.1", "xllamacpp": "1"})


@pytest.mark.parametrize(
    ("there", "word"),
    [
        (HERE, ""),
        (Machine(cpu="Xeon", cores=2, versions=HERE.versions), "another processor (Xeon; here EPYC)"),
        (Machine(cpu="EPYC", cores=8, versions=HERE.versions), "with 8 cores (here 2)"),
        (
            Machine(cpu="EPYC", cores=2, versions={**HERE.versions, "openvino": "2026.3"}),
            "openvino was 2026.3 when it was measured and is 2026.4.1 here",
        ),
        (Machine(cpu="EPYC", cores=2, versions={"openvino": "2026.4.1"}), "xllamacpp was absent"),
        (Machine(cpu="EPYC", cores=2, versions={**HERE.versions, "torch": "2.13"}), "torch was 2.13 when it"),
    ],
)
def test_a_record_from_an_unlike_machine_says_why_it_is_not_used(there: Machine, word: str) -> None:
    reason = unlike(there, HERE)
    assert word in reason
    assert bool(reason) == bool(word)


def test_a_record_of_another_model_is_not_used() -> None:
    best = row(100, 800)
    choice = TunedChoice(
        model="m", model_digest="sha256:" + "a" * 64, goal="latency", kind="fake", variant="",
        options=best.candidate.options, measured=best.typical, num_rounds=1, reason="r", machine=HERE,
        measured_at_s=1, complete=True,
    )  # fmt: skip
    assert stale(choice, model_digest=choice.model_digest, here=HERE) == ""
    assert "the model has changed" in stale(choice, model_digest="sha256:" + "b" * 64, here=HERE)


def test_the_reason_names_the_figures() -> None:
    rows = [row(147, 405), row(112, 834)]
    assert "147 tok/s alone (100% of the best), 405 at 16 streams (49%)" in explain(rows[0], "latency", rows)


def test_of_two_that_are_as_fast_the_smaller_cache_is_taken() -> None:
    def with_kv(one: float, many: float, kv: str, *, threads: int = 2) -> Measured:
        plain = row(one, many, name="same", threads=threads)
        options = msgspec.structs.replace(plain.candidate.options, extra={"name": "same", "KV_CACHE_PRECISION": kv})
        return msgspec.structs.replace(plain, candidate=msgspec.structs.replace(plain.candidate, options=options))

    wide, small = with_kv(100, 800, "bf16"), with_kv(99, 785, "u8")
    assert leaner([wide, small], wide) == small
    assert leaner([small, wide], small) == small
    assert leaner([wide, with_kv(95, 800, "u8")], wide) == wide
    assert leaner([wide, with_kv(100, 700, "u8")], wide) == wide
    assert leaner([wide, with_kv(100, 800, "u8", threads=1)], wide) == wide
