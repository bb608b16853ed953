"""What guesses prove, and what they must not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.private_attack import judge, least_epsilon

from ashore.core.errors import InvalidRequest


def test_it_is_the_bound_of_the_paper() -> None:
    # Steinke, Nasr and Jagielski 2023, figure 1: all of 100 or 1,000 guesses right, delta 1e-5, 95 %.
    assert least_epsilon(1000, 100, 100, 1e-5, 0.05) == pytest.approx(3.46, abs=0.02)
    assert least_epsilon(1000, 1000, 1000, 0.0, 0.05) == pytest.approx(
        math.log(0.05 ** (1 / 1000) / (1 - 0.05 ** (1 / 1000))), abs=1e-3
    )
    assert least_epsilon(1000, 100, 55, 1e-5, 0.05) == 0.0
    assert least_epsilon(1000, 100, 90, 1e-3, 0.05) < least_epsilon(1000, 100, 90, 0.0, 0.05)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_randomised_response_is_found_out_nearly_and_hardly_ever_wronged(epsilon: float) -> None:
    rng, found = np.random.default_rng(3), []
    for _ in range(60):
        coins = rng.random(300) < 0.5
        told = np.where(rng.random(300) < 1 / (1 + math.exp(-epsilon)), coins, ~coins) + rng.random(300) / 1e6
        found.append(judge(list(told[coins]), list(told[~coins]), 1e-6).least_epsilon)
    assert sum(one > epsilon for one in found) <= 7, "5 % is promised"
    assert np.mean(found) > 0.3 * epsilon, "and most of it is proven"


def test_scores_without_meaning_prove_nothing_and_are_at_chance() -> None:
    rng = np.random.default_rng(6)
    verdict = judge(list(rng.normal(size=300)), list(rng.normal(size=300)), 1e-5)
    assert verdict.least_epsilon < 0.3 and verdict.at_chance
    assert abs(verdict.exposure_bits - 1) < 0.4 and verdict.found_at_one_percent < 0.04
    same = judge([0.0] * 50, [0.0] * 50, 1e-5)
    assert same.least_epsilon == 0.0 and same.area == 0.5


def test_scores_that_say_all_prove_what_can_be_proven() -> None:
    verdict = judge([1.0 + n for n in range(100)], [0.0 - n for n in range(100)], 1e-5)
    assert verdict.least_epsilon == verdict.most_provable > 3 and not verdict.at_chance
    assert verdict.exposure_bits == pytest.approx(math.log2(101)) and verdict.found_at_one_percent == 1.0
    with pytest.raises(InvalidRequest, match="5 members"):
        judge([1.0] * 5, [0.0] * 100, 1e-5)
