"""The sampler: what each setting keeps, that seeds repeat, that log-probabilities are those of the model."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ashore.core.errors import EngineFailed
from ashore.core.ids import OrderId
from ashore.data.engines import Failed, GenerateOrder, Sampling
from ashore.data.engines.sampling import Continuation, Sampler, log_normaliser, top_of
from ashore.data.engines.sampling.sampler import _place_of

VOCAB = 2000


def row(seed: int = 0, scale: float = 3.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(VOCAB) * scale).astype(np.float32)


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return weights / weights.sum()


def support(sampling: Sampling, logits: NDArray[np.float32], draws: int = 400) -> Counter[int]:
    sampler = Sampler(sampling, [1])
    return Counter(sampler.choose(logits) for _ in range(draws))


def test_temperature_zero_is_the_best_token() -> None:
    logits = row()
    sampler = Sampler(Sampling(temperature=0), [1])
    assert sampler.is_plain_greedy
    assert sampler.choose(logits) == int(logits.argmax())


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-45, 1e-38, 1e-8])
@pytest.mark.parametrize("others", [{}, {"min_p": 1.0}, {"top_p": 1e-300}, {"top_k": 3}])
def test_the_coldest_temperatures_are_greedy(temperature: float, others: dict[str, Any]) -> None:
    logits = row()
    assert Sampler(Sampling(temperature=temperature, **others), [1]).choose(logits) == int(logits.argmax())


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0), Sampling(min_p=0.5), Sampling(top_k=3)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error_that_says_so(sampling: Sampling, value: float) -> None:
    logits = row()
    logits[7] = value
    with pytest.raises(EngineFailed, match=f"the model gave {value} for the likeliest token"):
        Sampler(sampling, [1]).choose(logits)


def test_an_answer_whose_next_token_cannot_be_chosen_ends_alone() -> None:
    order = GenerateOrder(order_id=OrderId("one"), prompt_ids=[1, 2], max_new_tokens=3, sampling=Sampling(min_p=0.5))
    for broken, said in ((np.zeros(0, np.float32), "ValueError"), (np.full(9, np.nan, np.float32), "gave nan")):
        answer = Continuation(order)
        (last,) = answer.take(broken)
        assert isinstance(last, Failed) and said in last.message
        assert answer.ended


def test_top_k_keeps_k() -> None:
    logits = row()
    best = set(np.argsort(-logits)[:5].tolist())
    assert set(support(Sampling(top_k=5, temperature=5), logits)) == best
    assert set(support(Sampling(top_k=1), logits)) == {int(logits.argmax())}


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float) -> None:
    logits = row()
    shares = softmax(logits)
    order = np.argsort(-shares)
    size = int(np.searchsorted(np.cumsum(shares[order]), top_p)) + 1
    allowed = set(order[:size].tolist())
    assert set(support(Sampling(top_p=top_p), logits, 2000)) <= allowed
    sharp = set(support(Sampling(top_p=top_p, seed=3), logits, 6000))
    assert len(sharp) > 0.5 * min(size, 20)


def test_top_p_zero_is_greedy() -> None:
    logits = row()
    assert set(support(Sampling(top_p=0.0), logits, 50)) == {int(logits.argmax())}


@pytest.mark.parametrize("extra", [{}, {"top_p": 0.99}, {"top_k": 500}])
def test_min_p_drops_what_is_too_far_below_the_best(extra: dict[str, float]) -> None:
    logits = row()
    shares = softmax(logits)
    allowed = set(np.flatnonzero(shares >= 0.2 * shares.max()).tolist())
    assert set(support(Sampling(min_p=0.2, **extra), logits, 3000)) == allowed  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature: float) -> None:
    logits = row(scale=1.5)[:20]
    draws = 20_000
    seen = support(Sampling(temperature=temperature, seed=1), logits, draws)
    for token, share in enumerate(softmax(logits, temperature)):
        assert abs(seen[token] / draws - share) < 4.5 * math.sqrt(share / draws) + 1e-3


def test_a_seed_repeats_and_no_seed_does_not() -> None:
    logits = row()

    def text(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=2, seed=seed), [1])
        return [sampler.choose(logits) for _ in range(20)]

    assert text(7) == text(7)
    assert text(7) != text(8)
    assert text(None) != text(None)
    assert text(-1) == text(-1)


def test_penalties_count_what_they_promise() -> None:
    logits = np.zeros(10, np.float32)
    logits[3], logits[4], logits[5] = 2.0, 1.9, 1.8
    presence = Sampler(Sampling(temperature=0, presence_penalty=0.15), [3, 3])
    assert presence.choose(logits) == 3  # the prompt does not count
    presence.note(3)
    assert presence.choose(logits) == 4
    frequency = Sampler(Sampling(temperature=0, frequency_penalty=0.06), [1])
    frequency.note(3)
    assert frequency.choose(logits) == 3
    frequency.note(3)
    assert frequency.choose(logits) == 4
    repetition = Sampler(Sampling(temperature=0, repetition_penalty=1.2), [3, 4])
    assert repetition.choose(logits) == 5  # the prompt counts
    negative = np.full(10, -1.0, np.float32)
    assert Sampler(Sampling(temperature=0, repetition_penalty=2.0), [0]).choose(negative) == 1


def test_logit_bias_adds_and_leaves_the_row_alone() -> None:
    logits = row()
    before = logits.copy()
    assert Sampler(Sampling(temperature=0, logit_bias={17: 100.0}), [1]).choose(logits) == 17
    banned = int(logits.argmax())
    assert Sampler(Sampling(temperature=0, logit_bias={banned: -100.0}), [1]).choose(logits) != banned
    assert np.array_equal(before, logits)


def test_a_grammar_mask_is_never_left() -> None:
    logits = row()
    allowed = np.zeros(VOCAB, np.bool_)
    allowed[[5, 9]] = True
    for sampling in (Sampling(temperature=0), Sampling(temperature=3), Sampling(top_k=50), Sampling(top_p=0.3)):
        sampler = Sampler(sampling, [1])
        assert {sampler.choose(logits, allowed) for _ in range(50)} <= {5, 9}


def test_log_probabilities_are_those_of_the_row() -> None:
    logits = row()
    total = log_normaliser(logits)
    expected = np.log(softmax(logits))
    assert total == pytest.approx(float(logits[0]) - expected[0], abs=1e-5)
    top = top_of(logits, total, 20)
    assert [t.token_id for t in top] == np.argsort(-logits)[:20].tolist()
    assert [t.logprob for t in top] == pytest.approx(np.sort(expected)[::-1][:20].tolist(), abs=1e-5)
    assert top_of(logits, total, 0) == ()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 100),
    st.floats(0.05, 20),
    st.floats(0.0, 1.0),
    st.integers(0, 40),
    st.floats(0.0, 1.0),
    st.integers(2, 30),
)
def test_any_setting_gives_a_token_of_the_vocabulary(
    seed: int, temperature: float, top_p: float, top_k: int, min_p: float, vocab: int
) -> None:
    logits = row(seed, scale=10)[:vocab]
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed)
    assert 0 <= Sampler(sampling, [1]).choose(logits) < vocab


@pytest.mark.parametrize("size", [1, 511, 512, 513, 5000])
def test_a_draw_by_blocks_takes_the_place_of_a_sum_one_by_one(size: int) -> None:
    weights = np.random.default_rng(size).exponential(size=size).astype(np.float32)
    totals = np.cumsum(weights, dtype=np.float64)
    for share in (0.0, *np.random.default_rng(1).random(200), 1 - 2**-53):
        expected = min(int(np.searchsorted(totals, share * totals[-1], side="right")), size - 1)
        assert _place_of(weights, float(share)) == expected


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0, presence_penalty=1.0, frequency_penalty=0.4),
        Sampling(temperature=0.9, seed=5),
        Sampling(temperature=1.3, seed=6, top_p=0.9, repetition_penalty=1.4, frequency_penalty=0.3),
        Sampling(temperature=1.0, seed=7, top_k=40, min_p=0.01),
    ],
)
def test_a_sampler_goes_on_behind_tokens_that_another_one_chose(sampling: Sampling) -> None:
    rows = [row(number, scale=1.0) for number in range(24)]

    def chosen(sampler: Sampler, rows: list[NDArray[np.float32]]) -> list[int]:
        found = []
        for logits in rows:
            found.append(sampler.choose(logits))
            sampler.note(found[-1])
        return found

    whole = chosen(Sampler(sampling, [1, 2, 3]), rows)
    for cut in (1, 11, 23):
        assert chosen(Sampler(sampling, [1, 2, 3], whole[:cut]), rows[cut:]) == whole[cut:]
