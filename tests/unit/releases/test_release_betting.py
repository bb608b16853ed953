"""The sequential test: false alarms however often one looks, and how soon a regression is found."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thrift import some_or_all

from ashore.data.path.differences import Endings, beside_each, slowness
from ashore.data.releases.betting import (
    ALPHA,
    BY_NAME,
    EVERYTHING,
    MEASURES,
    OF_ALL,
    OF_JUDGES,
    OF_SLICES,
    OF_STEPS,
    Tally,
    look,
    measure_of,
    observed,
    observed_failures,
    step_slice,
    wealth,
)

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
    return {
        "errors": pair(rng, 0.02, 0.02),
        "slower": slowness(rng.lognormvariate(0, 0.3), rng.lognormvariate(0, 0.3)),
        "likelihood": rng.gauss(0.0, 0.2),
        "defects": pair(rng, 0.1, 0.1),
    }


@some_or_all("seeds", 40, 200)
def test_an_equal_candidate_is_seldom_called_worse_although_every_look_counts(seeds: int) -> None:
    alarms = sum(run(equal, random.Random(seed), 600, ("a", "b"))[0] == "worse" for seed in range(seeds))
    assert alarms <= seeds * ALPHA


@some_or_all("seeds", 60, 200)
def test_at_the_very_edge_of_what_is_tolerated_the_bound_holds(seeds: int) -> None:
    def edge(rng: random.Random) -> dict[str, float]:
        return {"slower": float(rng.random() < 0.5), "likelihood": rng.choice((-0.95, 1.05)) + 0.0}

    alarms = sum(run(edge, random.Random(seed), 400)[0] == "worse" for seed in range(seeds))
    assert alarms <= seeds * ALPHA


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (lambda rng: {"errors": pair(rng, 0.02, 0.0)}, 500),
        (lambda rng: {"slower": slowness(1.2 * rng.lognormvariate(0, 0.15), rng.lognormvariate(0, 0.15))}, 100),
        (lambda rng: {"slower": slowness(1.2 * rng.lognormvariate(0, 0.2), rng.lognormvariate(0, 0.2))}, 160),
        (lambda rng: {"likelihood": rng.gauss(0.25, 0.3)}, 200),
        (lambda rng: {"defects": pair(rng, 0.5, 0.05), "likelihood": rng.gauss(0.8, 0.3)}, 50),
    ],
    ids=["2 % errors", "20 % slower", "20 % slower, with more spread", "a noisy quantisation", "a wrong template"],
)
def test_regressions_are_found_in_time(draw: Draw, most: int) -> None:
    found = [run(draw, random.Random(seed), 1500) for seed in range(40)]
    assert all(verdict == "worse" for verdict, _ in found)
    assert sorted(when for _, when in found)[len(found) // 2] <= most


@some_or_all("seeds", 30, 100)
@pytest.mark.parametrize("spread", [0.1, 0.2, 0.3])
def test_what_takes_a_tenth_longer_is_seldom_called_slower_although_every_look_counts(
    spread: float, seeds: int
) -> None:
    def tenth(rng: random.Random) -> dict[str, float]:
        return {"slower": slowness(1.1 * rng.lognormvariate(0, spread), rng.lognormvariate(0, spread))}

    alarms = sum(run(tenth, random.Random(seed), 800)[0] == "worse" for seed in range(seeds))
    assert alarms <= seeds * ALPHA


def test_a_good_candidate_is_found_no_worse_in_the_end() -> None:
    quiet: Draw = lambda rng: {"errors": 0.0, "slower": float(rng.random() < 0.45), "likelihood": rng.gauss(0.0, 0.1)}  # noqa: E731
    assert run(quiet, random.Random(1), 600)[0] == "no worse"


@some_or_all("seeds", 60, 200)
@pytest.mark.parametrize(("rate", "live"), [(0.02, 0.0), (0.03, 0.0)])
def test_two_errors_in_a_hundred_are_found_within_500_requests_nine_times_in_ten(
    rate: float, live: float, seeds: int
) -> None:
    found = [run(lambda rng: {"errors": pair(rng, rate, live)}, random.Random(seed), 1500) for seed in range(seeds)]
    times = sorted(when for verdict, when in found if verdict == "worse")
    assert len(times) == seeds and times[seeds // 2] <= 330 and times[seeds * 9 // 10] <= 500


def failures(rng: random.Random, rate: float, live: float, beside: int, most: int) -> int:
    """Return after how many answers of a candidate it is found worse, beside so many of what is live; 0: never."""
    tally = Tally()
    for number in range(1, most + 1):
        failed = sum(rng.random() < live for _ in range(beside))
        tally = tally + observed_failures(rng.random() < rate, beside, failed)
        if look({("errors", EVERYTHING): tally}).verdict == "worse":
            return number
    return 0


@some_or_all("seeds", 40, 100)
def test_a_small_share_is_laid_beside_all_that_answers_meanwhile(seeds: int) -> None:
    """A canary of 5 % has nineteen live answers beside each of its own: two or three errors say enough."""
    found = sorted(failures(random.Random(seed), 0.02, 0.0, 19, 1500) for seed in range(seeds))
    assert found[0] > 0 and found[seeds // 2] <= 200 and found[seeds * 9 // 10] <= 350
    assert sum(failures(random.Random(seed), 0.02, 0.02, 19, 400) > 0 for seed in range(seeds)) <= seeds * ALPHA


def as_they_come(rng: random.Random, rate: float, live: float, share: int, most: int) -> tuple[int, int]:
    """Return after how many answers of its own a canary is found worse, 0: never, and how many had none beside them,
    where chance says which release gets a request."""
    tally, endings, own, alone = Tally(), Endings(), 0, 0
    for at_s in range(1, 40 * most):
        if rng.random() * 1000 >= share:
            endings.add(at_s, rng.random() < live)
            continue
        own += 1
        failed, beside = rng.random() < rate, endings.take(0.0, most=beside_each(share))
        if not beside.count:
            alone += 1
            continue
        tally = tally + observed_failures(failed, beside.count, beside.failed)
        if look({("errors", EVERYTHING): tally}).verdict == "worse":
            return own, alone
        if own >= most:
            break
    return 0, alone


@pytest.mark.parametrize(("share", "median", "most"), [(500, 340, 560), (50, 130, 300)])
def test_two_errors_in_a_hundred_are_found_where_chance_says_who_answers(share: int, median: int, most: int) -> None:
    found = sorted(as_they_come(random.Random(seed), 0.02, 0.0, share, 1500)[0] for seed in range(100))
    assert found[0] > 0 and found[50] <= median and found[90] <= most


@some_or_all("seeds", 60, 200)
def test_equal_ones_are_seldom_called_worse_where_chance_says_who_answers_and_few_have_none_beside_them(
    seeds: int,
) -> None:
    runs = [as_they_come(random.Random(seed), 0.02, 0.02, 500, 500) for seed in range(seeds)]
    assert sum(own > 0 for own, _ in runs) <= seeds * ALPHA
    assert sum(alone for _, alone in runs) <= 0.12 * seeds * 500


@pytest.mark.parametrize("beside", [1, 2, 5, 19, 32])
@pytest.mark.parametrize("rate", [0.0005, 0.02, 0.3])
def test_a_bet_on_failures_is_fair_for_equal_ones_and_for_what_is_tolerated(beside: int, rate: float) -> None:
    """Nobody gets richer on average where the candidate fails as often as what is live, or by what is tolerated more,
    nor where both fail on the same requests."""
    tolerated = BY_NAME["errors"].tolerated
    for number in range(3):
        for extra, same in ((0.0, False), (tolerated, False), (0.0, True)):
            mean = 0.0
            for failed in range(beside + 1):
                of_live = math.comb(beside, failed) * rate**failed * (1 - rate) ** (beside - failed)
                chance = failed / beside if same else rate + extra  # same: its own request is one of those beside
                for fails, part in ((True, chance), (False, 1 - chance)):
                    mean += of_live * part * math.exp(observed_failures(fails, beside, failed).worse[number])
            assert mean <= 1 + 1e-9


def test_one_beside_is_the_plain_bet() -> None:
    for failed, live in ((True, 0), (False, 1), (False, 0), (True, 1)):
        plain = observed(BY_NAME["errors"], float(failed) - live)
        ours = observed_failures(failed, 1, live)
        assert ours.fine == plain.fine and ours.total == plain.total
        for a, b in zip(ours.worse, plain.worse, strict=True):
            assert math.isclose(a, b, abs_tol=0.06), "but for what is tolerated"


def test_all_stakes_come_to_one() -> None:
    assert math.isclose(OF_ALL + OF_SLICES + OF_STEPS + OF_JUDGES, 1.0)
    assert math.isclose(sum(measure.stake for measure in MEASURES), 1.0)
    assert all(math.isclose(sum(measure.weights), 1.0) for measure in MEASURES)
    slices = (EVERYTHING, *(f"tenant {n}" for n in range(30)), *(step_slice(n) for n in range(1, 30)))
    tallies = {(m.name, part): Tally(place=1) for m in MEASURES for part in slices}
    tallies |= {(f"judge {n}", EVERYTHING): Tally(place=2) for n in range(8)}
    tallies |= {("agreement", EVERYTHING): Tally(count=1, total=1.0, place=3)}
    assert math.isclose(look(tallies).e_value, 1.0), "nothing was seen, so nobody is richer"
    rich = {key: Tally(worse=(3.0, 3.0, 3.0), place=t.place) for key, t in tallies.items()}
    assert look(rich).e_value < math.exp(3.0) + 1e-9


def test_what_came_first_keeps_its_stake() -> None:
    bad = observed(BY_NAME["errors"], 1.0)
    grown = Tally(worse=(6.0, 6.0, 6.0), count=9, place=1)
    alone = look({("errors", "tenant z"): grown})
    later = look({("errors", "tenant a"): Tally(place=2) + bad, ("errors", "tenant z"): grown})
    assert alone.slice == later.slice == "tenant z" and alone.e_value <= later.e_value + 1e-9


def test_a_step_is_no_worse_by_what_was_seen_at_it_alone() -> None:
    early, late = step_slice(50), step_slice(500)
    good = Tally()
    for _ in range(400):
        good = good + observed(BY_NAME["errors"], 0.0)
    seen = {("errors", EVERYTHING): good, ("errors", early): good}
    assert look(seen).verdict == look(seen, within=early).verdict == "no worse"
    assert look(seen, within=late).verdict == "go on", "nobody has seen it at half of the requests"


@pytest.mark.parametrize(("requests", "verdict"), [(240, "no worse"), (180, "go on")])
def test_speed_that_few_answers_tell_of_does_not_hold_a_candidate_up(requests: int, verdict: str) -> None:
    good, slow = Tally(), Tally()
    for _ in range(requests):
        good = good + observed(BY_NAME["errors"], 0.0)
    for number in range(48):
        slow = slow + observed(BY_NAME["slower"], 0.45 if number % 2 else 0.74)
    seen = {("errors", EVERYTHING): good}
    assert look(seen).verdict == "no worse"
    assert look({**seen, ("slower", EVERYTHING): slow}).verdict == verdict
    for _ in range(12):
        slow = slow + observed(BY_NAME["slower"], 1.0)
    assert look({**seen, ("slower", EVERYTHING): slow}).verdict == "worse", "few that say much are heard"


def test_a_regression_that_comes_with_a_share_is_found_although_the_small_share_was_good() -> None:
    """At 5 % and 20 % the candidate is quick, at 50 % it is slow: the step's own evidence does not carry the past."""
    rng = random.Random(5)
    tallies: dict[tuple[str, str], Tally] = {}
    place = 0
    when = 0
    for number in range(1, 2001):
        share = 50 if number <= 900 else 500
        value = float(rng.random() < (0.4 if share == 50 else 0.8))
        for part in (EVERYTHING, step_slice(share)):
            key = ("slower", part)
            if key not in tallies:
                place += 1
                tallies[key] = Tally(place=place)
            tallies[key] = tallies[key] + observed(BY_NAME["slower"], value)
        if look(tallies).verdict == "worse":
            when = number
            break
    assert 900 < when < 1050 and look(tallies).slice == step_slice(500)


def test_a_judge_of_the_operator_is_part_of_the_test() -> None:
    for name, draw in (("judge json", lambda r: pair(r, 0.4, 0.05)), ("preference of mine", lambda r: 0.75)):
        tally, rng, measure = Tally(), random.Random(3), measure_of(name)
        assert measure is not None
        for _ in range(150):
            tally = tally + observed(measure, draw(rng))
        found = look({(name, EVERYTHING): tally})
        assert found.verdict == "worse" and found.measure == name and f"{name} mean" in found.details
    assert measure_of("agreement") is None


def test_an_equal_preference_is_no_reason() -> None:
    tally, measure = Tally(), measure_of("preference of mine")
    assert measure is not None
    for _ in range(500):
        tally = tally + observed(measure, 0.5)
    assert look({("preference of mine", EVERYTHING): tally}).verdict != "worse"


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
    up, down = (wealth(observed(m, value).worse, m.weights) for value in (high, low))  # type: ignore[arg-type]
    assert math.isclose(chance * up + (1 - chance) * down, 1.0, rel_tol=1e-9)
