"""The sequential test: false alarms however often one looks, and how soon a regression is found."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.releases.betting import ALPHA, BY_NAME, EVERYTHING, MEASURES, Tally, look, observed, wealth

Draw = Callable[[random.Random], dict[str, float]]


def run(draw: Draw, rng: random.Random, most: int, slices: tuple[str, ...] = ()) -> tuple[str, int]:
    """Look after every observation; return the first verdict that is no `go on`, and when it came."""
    tallies: dict[tuple[str, str], Tally] = {}
    for number in range(1, most + 1):
        for name, value in draw(rng).items():
            one = observed(BY_NAME[name], value)
            for part in (EVERYTHING, *((slices[number % len(slices)],) if slices else ())):
                tallies[name, part] = tallies.get((name, part), Tally()) + one
        found = look(tallies)
        if found.verdict == "worse":
            return "worse", number
    return found.verdict, most


def pair(rng: random.Random, rate: float, live: float) -> float:
    return float(rng.random() < rate) - float(rng.random() < live)


def equal(rng: random.Random) -> dict[str, float]:
    slower = rng.lognormvariate(0, 0.3) > 1.05 * rng.lognormvariate(0, 0.3)
    return {
        "errors": pair(rng, 0.02, 0.02),
        "slower": float(slower),
        "likelihood": rng.gauss(0.0, 0.2),
        "defects": pair(rng, 0.1, 0.1),
    }


def test_an_equal_candidate_is_seldom_called_worse_although_every_look_counts() -> None:
    alarms = sum(run(equal, random.Random(seed), 600, ("a", "b"))[0] == "worse" for seed in range(200))
    assert alarms <= 200 * ALPHA


def test_at_the_very_edge_of_what_is_tolerated_the_bound_holds() -> None:
    def edge(rng: random.Random) -> dict[str, float]:
        return {"slower": float(rng.random() < 0.5), "likelihood": rng.choice((-0.95, 1.05)) + 0.0}

    alarms = sum(run(edge, random.Random(seed), 400)[0] == "worse" for seed in range(200))
    assert alarms <= 200 * ALPHA


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (lambda rng: {"errors": pair(rng, 0.02, 0.0)}, 500),
        (lambda rng: {"slower": float(1.2 * rng.lognormvariate(0, 0.15) > 1.05 * rng.lognormvariate(0, 0.15))}, 200),
        (lambda rng: {"likelihood": rng.gauss(0.25, 0.3)}, 200),
        (lambda rng: {"defects": pair(rng, 0.5, 0.05), "likelihood": rng.gauss(0.8, 0.3)}, 50),
    ],
    ids=["2 % errors", "20 % slower", "a noisy quantisation", "a wrong template"],
)
def test_regressions_are_found_in_time(draw: Draw, most: int) -> None:
    found = [run(draw, random.Random(seed), 1500) for seed in range(40)]
    assert all(verdict == "worse" for verdict, _ in found)
    assert sorted(when for _, when in found)[len(found) // 2] <= most


def test_a_good_candidate_is_found_no_worse_in_the_end() -> None:
    quiet: Draw = lambda rng: {"errors": 0.0, "slower": float(rng.random() < 0.45), "likelihood": rng.gauss(0.0, 0.1)}  # noqa: E731
    assert run(quiet, random.Random(1), 600)[0] == "no worse"


def test_nothing_observed_says_nothing() -> None:
    found = look({})
    assert (found.verdict, found.count) == ("go on", 0) and math.isclose(found.e_value, 1.0)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=40), st.sampled_from(MEASURES), st.integers(0, 40))
def test_workers_may_add_up_in_any_order(values: list[float], measure: object, cut: int) -> None:
    def summed(part: Iterable[float]) -> Tally:
        total = Tally()
        for value in part:
            total = total + observed(measure, value)  # type: ignore[arg-type]
        return total

    together, apart = summed(values), summed(values[cut:]) + summed(values[:cut])
    assert together.count == apart.count and math.isclose(together.total, apart.total, abs_tol=1e-9)
    assert math.isclose(wealth(together.worse), wealth(apart.worse), rel_tol=1e-9)


@given(st.sampled_from(MEASURES), st.floats(0, 1))
def test_a_bet_is_fair_at_the_bound(measure: object, share: float) -> None:
    """Of two values whose mean is what is tolerated, wealth is 1 on average: nobody gets richer where nothing is."""
    m = measure
    low = m.low + share * (m.tolerated - m.low)  # type: ignore[attr-defined]
    high = m.high  # type: ignore[attr-defined]
    if not low < m.tolerated < high:  # type: ignore[attr-defined]
        return
    chance = (m.tolerated - low) / (high - low)  # type: ignore[attr-defined]
    up, down = (wealth(observed(m, value).worse) for value in (high, low))  # type: ignore[arg-type]
    assert math.isclose(chance * up + (1 - chance) * down, 1.0, rel_tol=1e-9)
