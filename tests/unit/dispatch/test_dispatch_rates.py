"""What a back end does in a second, learned from answers."""

from __future__ import annotations

import pytest

from ashore.data.dispatch import LEARNED, Rates


def answers(
    rates: Rates, number: int, *, alone_per_s: float, full_per_s: float, at_once: int, prompt_per_s: float = 1000.0
) -> None:
    """Give so many answers of 100 tokens to prompts of 200, on a device that answers so many at once."""
    per_s = min(alone_per_s, full_per_s / at_once)
    for _ in range(number):
        rates.learn(
            prompt_tokens=200,
            first_s=200 / prompt_per_s * at_once,
            output_tokens=101,
            decode_s=100 / per_s,
            at_once=at_once,
        )


def test_a_first_answer_replaces_the_guess_and_further_ones_correct_it() -> None:
    rates = Rates()
    answers(rates, 1, alone_per_s=60, full_per_s=500, at_once=1)
    assert rates.stream.per_s == pytest.approx(60) and rates.prefill.per_s == pytest.approx(1000)
    assert rates.answers < LEARNED
    answers(rates, LEARNED - 1, alone_per_s=60, full_per_s=500, at_once=1)
    assert rates.answers >= LEARNED
    answers(rates, 60, alone_per_s=30, full_per_s=500, at_once=1)
    assert rates.stream.per_s == pytest.approx(30, rel=0.1)


def test_a_full_device_is_a_guess_until_it_was_seen_full() -> None:
    rates = Rates()
    answers(rates, 5, alone_per_s=60, full_per_s=200, at_once=1)
    assert rates.decode_per_s(4) == pytest.approx(240), "four streams, none slower than alone"
    assert rates.decode_per_s(64) == pytest.approx(16 * 60), "no more than a batch is promised"
    answers(rates, 30, alone_per_s=60, full_per_s=200, at_once=8)
    assert rates.decode_per_s(64) == pytest.approx(200, rel=0.05)
    assert rates.stream.per_s == pytest.approx(60), "a crowd says nothing of one alone"


def test_short_answers_and_prompts_say_nothing() -> None:
    rates = Rates()
    guess = rates.stream.per_s, rates.prefill.per_s
    rates.learn(prompt_tokens=3, first_s=1.0, output_tokens=2, decode_s=1.0, at_once=1)
    assert (rates.stream.per_s, rates.prefill.per_s) == guess and rates.answers == 1
