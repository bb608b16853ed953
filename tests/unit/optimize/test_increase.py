"""What a model loses against its reference, and how sure that is: on invented losses, the answer is known."""

from __future__ import annotations

import math
import random
from statistics import pstdev

import pytest

from ashore.optimize import Losses, compare_losses
from ashore.optimize.trials import search_choices

WINDOWS, TOKENS = 14, 511


def costs(seed: int, *, windows: int = WINDOWS, tokens: int = TOKENS) -> Losses:
    """Return what tokens cost a reference: far more apart than any model from another."""
    chance = random.Random(seed)
    return tuple(tuple(chance.expovariate(1 / 3) for _ in range(tokens)) for _ in range(windows))


def worse(reference: Losses, by: float, *, noise: float = 0.0, seed: int = 1) -> Losses:
    """Return losses that are `by` larger, and `noise` apart from that, alike for all tokens of a window."""
    chance = random.Random(seed)
    moved = [by + chance.gauss(0, noise) for _ in reference]
    return tuple(tuple(loss + move for loss in window) for window, move in zip(reference, moved, strict=True))


def test_what_a_token_costs_in_itself_cancels_out() -> None:
    reference = costs(0)
    found = compare_losses(worse(reference, math.log(1.01)), reference)
    assert found.mean == pytest.approx(0.01) and found.error < 1e-9
    assert found.num_tokens == WINDOWS * TOKENS


def test_the_error_is_that_between_windows() -> None:
    reference = costs(0)
    found = compare_losses(
        tuple(tuple(x + 0.01 * (i % 2) for x in window) for i, window in enumerate(reference)), reference
    )
    assert found.mean == pytest.approx(math.expm1(0.005))
    assert found.upper == pytest.approx(math.expm1(0.005 + 0.005 / math.sqrt(WINDOWS - 1)))


def test_the_error_is_as_large_as_the_mean_really_strays() -> None:
    reference = costs(0, tokens=8)
    found = [compare_losses(worse(reference, 0.01, noise=0.004, seed=seed), reference) for seed in range(400)]
    strays = pstdev(each.mean for each in found)
    assert sum(each.error for each in found) / len(found) == pytest.approx(strays, rel=0.1)


def test_windows_count_by_their_tokens() -> None:
    reference = (costs(0, windows=1, tokens=90)[0], costs(1, windows=1, tokens=10)[0])
    mine = (reference[0], tuple(loss + 0.1 for loss in reference[1]))
    assert compare_losses(mine, reference).mean == pytest.approx(math.expm1(0.01))


def test_one_window_tells_of_no_spread_and_holds_no_floor() -> None:
    reference = costs(0, windows=1)
    assert compare_losses(reference, reference).upper == math.inf
    judge = search_choices((), lambda _small, _way: compare_losses(reference, reference), floor=0.5, first=0, most=2)
    assert judge.best() is None


def test_other_windows_are_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare_losses(costs(0), costs(0, windows=3))


def picked(noise: float) -> int:
    """Return how many layers a judge allows that is right in the mean and strays by `noise` from window to window."""
    reference = costs(0, tokens=20)

    def judge(count: int) -> Losses:
        loss = 0.001 + 0.0002 * count
        return tuple(tuple(x + loss + noise * (-1) ** i for x in window) for i, window in enumerate(reference))

    return max(count for count in range(121) if compare_losses(judge(count), reference).upper <= 0.01)


def test_an_exact_judge_allows_all_within_the_floor_and_a_noisy_one_less() -> None:
    assert picked(0) == 44  # log1p(0.01) - 0.001, in steps of 0.0002
    assert picked(0.001) == 43  # the same without 0.001 / sqrt(13)
    assert picked(0.004) == 39


def test_equal_losses_are_judged_alike() -> None:
    reference = costs(0)
    mine = worse(reference, 0.01, noise=0.002)
    assert compare_losses(mine, reference) == compare_losses(mine, reference)
    assert picked(0.004) == picked(0.004)


def test_what_is_said_has_both_figures_and_the_tokens() -> None:
    reference = ((1.0, 1.0), (1.0, 1.0))
    said = str(compare_losses(((1.01, 1.01), (1.02, 1.02)), reference))
    assert said == "+1.51% of perplexity as served, +2.02% with one standard error, on 4 tokens"
