"""What noise is worth, against the figures of other accountants and the closed form."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from scipy.special import ndtr

from ashore.control.ledger.accountant import (
    best_order,
    capacity,
    choice_rdp,
    gaussian_noise,
    gaussian_rdp,
    training_epsilon,
    training_noise,
)
from ashore.control.ledger.statistics import discrete_gaussian, exponential_choice
from ashore.core.errors import InvalidRequest


def exact_delta(noise: float, epsilon: float) -> float:
    near = 1 / (2 * noise)
    return float(ndtr(near - epsilon * noise) - math.exp(epsilon) * ndtr(-near - epsilon * noise))


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta", "known"),
    [
        # PLD of Google's dp-accounting for DP-SGD: units 3,520, expected batch 256, 55 steps; 20,000, 512, 117.
        (1.38, 256 / 3520, 55, 1 / 35_200, 1.989),
        (2.21, 256 / 3520, 55, 1 / 35_200, 0.987),
        (3.91, 256 / 3520, 55, 1 / 35_200, 0.480),
    ],
)
def test_training_is_worth_what_other_accountants_say(
    noise: float, rate: float, steps: int, delta: float, known: float
) -> None:
    assert training_epsilon(noise, rate, steps, delta) == pytest.approx(known, rel=0.01)


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (10.0, 100), (4.0, 7)])
def test_without_sampling_it_is_one_gaussian_and_never_below_it(noise: float, steps: int) -> None:
    delta = 1e-5
    found = training_epsilon(noise, 1.0, steps, delta)
    assert exact_delta(noise / math.sqrt(steps), found) <= delta
    assert exact_delta(noise / math.sqrt(steps), found * 0.99) > delta


def test_more_noise_fewer_steps_and_smaller_samples_cost_less() -> None:
    base = training_epsilon(1.0, 0.02, 100, 1e-6)
    assert training_epsilon(1.2, 0.02, 100, 1e-6) < base
    assert training_epsilon(1.0, 0.01, 100, 1e-6) < base
    assert training_epsilon(1.0, 0.02, 50, 1e-6) < base


def test_the_noise_that_is_chosen_keeps_the_promise_and_little_less_does_not() -> None:
    noise = training_noise(2.0, 1e-5, 0.02, 200)
    assert training_epsilon(noise, 0.02, 200, 1e-5) <= 2.0 < training_epsilon(noise * 0.98, 0.02, 200, 1e-5)


@pytest.mark.parametrize(
    "bad", [(0, 0.1, 1, 1e-6), (1, 0, 1, 1e-6), (1, 1.1, 1, 1e-6), (1, 0.1, 0, 1e-6), (1, 0.1, 1, 0)]
)
def test_what_is_no_training_is_refused(bad: tuple[float, float, int, float]) -> None:
    with pytest.raises(InvalidRequest, match="are no DP-SGD"):
        training_epsilon(*bad)


def test_the_noise_of_a_question_is_the_least_that_keeps_it() -> None:
    noise = gaussian_noise(0.1, 1e-8)
    assert exact_delta(noise, 0.1) <= 1e-8 < exact_delta(noise * 0.999, 0.1)


@pytest.mark.parametrize(("epsilon", "times"), [(0.5, 5), (2.0, 15)])
def test_questions_are_many_times_those_of_plain_addition(epsilon: float, times: int) -> None:
    order = best_order(epsilon, 1e-6)
    many = capacity(epsilon, 1e-6, order) / gaussian_rdp(gaussian_noise(0.1, 1e-8), order)
    assert many >= times * epsilon / 0.1 * 0.75, f"{many:.0f} questions of 0.1 in {epsilon:g}"


def test_what_fits_by_the_filter_is_within_the_promise_exactly() -> None:
    epsilon, delta = 1.0, 1e-6
    order = best_order(epsilon, delta)
    noise = gaussian_noise(0.1, 1e-8)
    many = math.floor(capacity(epsilon, delta, order) / gaussian_rdp(noise, order))
    assert exact_delta(noise / math.sqrt(many), epsilon) <= delta


def test_discrete_noise_has_the_spread_that_was_asked_for() -> None:
    drawn = [discrete_gaussian(Fraction(9)) for _ in range(4000)]
    mean = sum(drawn) / len(drawn)
    variance = sum(one * one for one in drawn) / len(drawn) - mean**2
    assert abs(mean) < 0.3 and 7.8 < variance < 10.3
    seen = Counter(drawn)
    assert 0.10 < seen[0] / len(drawn) < 0.17, "exp(0) over the sum of exp(-x²/18) is 0.133"


def test_a_choice_is_drawn_as_often_as_the_exponential_mechanism_says() -> None:
    scores, epsilon = [Fraction(0), Fraction(-2), Fraction(-1, 2)], Fraction(1)
    seen = Counter(exponential_choice(scores, epsilon) for _ in range(6000))
    weights = [math.exp(float(one) / 2) for one in scores]
    for number, weight in enumerate(weights):
        assert seen[number] / 6000 == pytest.approx(weight / sum(weights), abs=0.03)


def test_a_choice_costs_what_it_can_tell() -> None:
    """Of two neighbouring answers the odds differ by at most e^epsilon; its RDP is below what that allows at most."""
    epsilon, order = 0.5, 12
    # The worst that is bounded in range: odds that differ by e^(epsilon - t) and e^-t, for any t.
    worst = 0.0
    for step in range(1, 50):
        t = epsilon * step / 50
        low, high = math.exp(-t), math.exp(epsilon - t)
        share = (1 - low) / (high - low)
        moment = share * high**order + (1 - share) * low**order
        worst = max(worst, math.log(moment) / (order - 1))
    assert worst <= choice_rdp(epsilon, order) <= 1.5 * worst
