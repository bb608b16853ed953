"""An anytime-valid test: the wealth of bets against "no worse" and against "worse". Pure.

A bettor who stakes part of their wealth on each observation, that a mean is above a bound when it is not, gains nothing
on average. The probability that their wealth ever reaches 1/alpha is at most alpha, however often the test is evaluated
(Ville 1939). So wealth is evidence. Bets of several fixed sizes run beside each other, and their wealths are averaged;
since each is a product over the observations, workers may add up logarithms.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024), section 4;
Vovk and Wang, "E-values: calibration, combination and applications", Annals of Statistics 49 (2021), section 3 (an
average of e-values is one, whatever their dependence).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

Three = tuple[float, float, float]

EVEN: Final[Three] = (1 / 3, 1 / 3, 1 / 3)
FINE_BETS: Final[Three] = (0.1, 0.35, 0.98)
"""Bets that a mean is below its limit, as parts of the largest one that cannot lose everything."""
ALPHA: Final = 0.05
"""Probability of calling an equal candidate worse, over all looks, measures and slices together."""
OF_ALL: Final = 0.8
"""Part of the stake on all requests together. The rest is on slices, on the steps of a canary and on judges: the n-th
that appears of each kind has 1/(n(n+1)) of the part of its kind."""
OF_SLICES: Final = 0.1
OF_STEPS: Final = 0.05
OF_JUDGES: Final = 0.05
SLOWER: Final = 1.1
"""A token that takes so many times as long still counts as equal. Two hosts of one model on one machine differ by 10 to
15 % for minutes where other processes want the same processors (benchmarks/reports/2026-11-27-release.md)."""
MUCH_SLOWER: Final = 0.3
"""Logarithm of how many times more, or less, is as much as counts. One answer is not worth more, however long it took;
and who counts no more than which of two took longer needs half as many pairs again to find 20 % (simulated, where times
for a token spread by 15 to 20 %)."""
EVERYTHING: Final = ""
"""The slice of all requests."""
STEP: Final = "share "
"""How the slice of a step begins."""

Verdict = Literal["no worse", "worse", "go on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing in which a candidate may be worse. Larger observations are worse ones."""

    name: str
    low: float
    high: float
    tolerated: float
    """Mean up to which a candidate counts as equal."""
    limit: float
    """Mean from which on it counts as worse, for saying that it is not; above `tolerated`."""
    stake: float
    """Part of the whole stake; those of all measures come to 1."""
    bets: Three
    """Bets that the mean is above `tolerated`, as parts of the largest one that cannot lose everything."""
    weights: Three
    """How the stake of the measure is spread over its bets."""
    often: float = 0.0
    """Part of the requests in which it was observed from which on a candidate must be found fine by it."""


MEASURES: Final = (
    Measure(
        name="errors", low=-1, high=1, tolerated=0.0005, limit=0.03, stake=0.65, bets=(0.3, 0.7, 0.995),
        weights=(0.15, 0.1, 0.75),
    ),
    Measure(
        name="slower", low=0, high=1, tolerated=0.5, limit=0.65, stake=0.125, bets=(0.15, 0.45, 0.8),
        weights=(0.35, 0.5, 0.15), often=0.25,
    ),
    Measure(
        name="likelihood", low=-1, high=1, tolerated=0.05, limit=0.12, stake=0.11, bets=(0.2, 0.6, 0.98),
        weights=(0.2, 0.3, 0.5),
    ),
    Measure(
        name="defects", low=-1, high=1, tolerated=0.02, limit=0.1, stake=0.115, bets=(0.15, 0.5, 0.95),
        weights=(0.2, 0.5, 0.3),
    ),
)  # fmt: skip
"""errors: 1 if the candidate failed and the live release did not, -1 the other way round; with several live answers,
the difference to the share of them that failed. slower: time per token compared with the live release, for requests
that started next to each other: 0.5 for 1.1 times as long, 0.65 for 1.2 times, 1 from 1.48 times on. likelihood: how
much less likely, in nats per token, a live answer is to the candidate than to the live release. defects: as errors,
for answers that are empty, refuse, break their schema, or run into their length limit.

Rare errors decide by few: the largest bet doubles with each that the live one does not make, and as good as nothing is
lost while neither fails. So most of their stake is there, and what counts as equal is next to nothing."""
BY_NAME: Final[Mapping[str, Measure]] = {measure.name: measure for measure in MEASURES}

CHECK: Final = "judge "
PREFERENCE: Final = "preference of "
_CHECKED: Final = Measure(
    name=CHECK, low=-1, high=1, tolerated=0.02, limit=0.1, stake=1.0, bets=(0.15, 0.5, 0.95), weights=(0.2, 0.4, 0.4)
)
_PREFERRED: Final = Measure(
    name=PREFERENCE,
    low=0,
    high=1,
    tolerated=0.5,
    limit=0.65,
    stake=1.0,
    bets=(0.15, 0.45, 0.9),
    weights=(0.3, 0.4, 0.3),
)  # fmt: skip


def measure_of(name: str) -> Measure | None:
    """Return the measure of that name, built in or of an operator's judge; None if it is only shown."""
    if name.startswith(CHECK):
        return _CHECKED
    return _PREFERRED if name.startswith(PREFERENCE) else BY_NAME.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Evidence on one measure in one slice."""

    count: int = 0
    total: float = 0.0
    worse: Three = (0.0, 0.0, 0.0)
    """Logarithm of the wealth of each bet that the mean is above what is tolerated."""
    fine: Three = (0.0, 0.0, 0.0)
    """Logarithm of the wealth of each bet that the mean is below the limit."""
    place: int = 0
    """When it was first seen, among the tallies of its stage: what decides its stake. 0: not kept yet."""

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            count=self.count + other.count,
            total=self.total + other.total,
            worse=_sum(self.worse, other.worse),
            fine=_sum(self.fine, other.fine),
            place=self.place or other.place,
        )


def observed(measure: Measure, value: float) -> Tally:
    """Return the tally of one observation, clipped to the bounds."""
    value = min(measure.high, max(measure.low, value))
    up, down = 1 / (measure.tolerated - measure.low), 1 / (measure.high - measure.limit)
    return Tally(
        count=1,
        total=value,
        worse=_three([math.log1p(bet * up * (value - measure.tolerated)) for bet in measure.bets]),
        fine=_three([math.log1p(bet * down * (measure.limit - value)) for bet in FINE_BETS]),
    )


def observed_failures(failed: bool, beside: int, beside_failed: int) -> Tally:
    """Return the tally of `errors` for one candidate answer and the live answers beside it.

    Where both are equal, each of the answers is as likely to be the one of the candidate, so of `t` that failed among
    `n` it is the candidate's with `t/n`. A bet says it is more: as often as for odds that are larger by a factor, the
    one that makes it our bet where there is one answer beside. What is tolerated is taken off every answer.

    With one beside, an error that the live one does not make doubles the wealth at most; with nineteen it is worth up
    to twenty times as much. Source: the conditional test of two proportions (Fisher 1935) as a bet.

    Args:
        failed: Whether the candidate's did.
        beside: Answers of the live release since the candidate's last one, at least 1.
        beside_failed: How many of these failed.
    """
    measure, n, t = BY_NAME["errors"], beside + 1, beside_failed + failed
    worse = []
    for bet in measure.bets:
        odds = (1 + bet) / (1 - bet)
        gain = n * odds / (odds * t + n - t) if failed else n / (odds * t + n - t)
        most = n * odds / (odds + beside) - 1
        worse.append(math.log(gain if 0 < t < n else 1.0) - math.log1p(measure.tolerated * most))
    value = failed - beside_failed / beside
    return replace(observed(measure, value), worse=_three(worse))


def step_slice(share: int) -> str:
    """Return the slice of the requests at one share of a canary, in thousandths."""
    return f"{STEP}{share / 10:g} %"


def wealth(logarithms: Iterable[float], weights: Three = EVEN) -> float:
    """Return the combined wealth of the bets; `weights` is the split of the stake."""
    return sum(weight * math.exp(min(value, 700.0)) for value, weight in zip(logarithms, weights, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of a look at all tallies."""

    verdict: Verdict
    e_value: float
    """Evidence that the candidate is worse; 1/alpha is enough."""
    count: int
    """Observations of the measure that has most."""
    measure: str = ""
    """What speaks loudest against the candidate; empty: nothing does."""
    slice: str = ""
    mean: float = 0.0
    """Of that."""
    needed: int = 0
    """About how many observations it takes until it is `no worse`, as they were so far; 0: that cannot be said."""
    details: Mapping[str, str | int | float] = field(default_factory=dict)


def look(tallies: Mapping[tuple[str, str], Tally], *, alpha: float = ALPHA, within: str = EVERYTHING) -> Finding:
    """Return the current verdict on a candidate.

    The verdict is `worse` once all stakes together have grown to 1/alpha; `no worse` once each observed measure has
    reached the same against its limit, on the requests `within`; else `go on`. A measure observed less often than it
    requires is exempt: few answers of a word or two have a speed.

    Args:
        tallies: By measure and slice; the slice `EVERYTHING` is all requests.
        alpha: Probability of a false alarm.
        within: The slice of the current step of a canary: what was seen at smaller shares does not say that a candidate
            is no worse at this one.
    """
    total, loudest, most = 1.0, ("", EVERYTHING), 0.0
    for key, stake, measure in _staked(tallies):
        tally = tallies[key]
        grown = stake * wealth(tally.worse, measure.weights)
        total += grown - stake
        if grown - stake > most:
            loudest, most = key, grown - stake
    overall = [name for name, where in tallies if where == EVERYTHING and measure_of(name) is not None]
    here = {name: tally.count for (name, where), tally in tallies.items() if where == within and name in BY_NAME}
    most_here = max(here.values(), default=0)
    judged = [
        tallies.get((name, within if name in BY_NAME else EVERYTHING))
        for name in overall
        if name not in BY_NAME or here.get(name, 0) >= BY_NAME[name].often * most_here
    ]
    fine = bool(judged) and all(tally is not None and wealth(tally.fine) >= 1 / alpha for tally in judged)
    details: dict[str, str | int | float] = {}
    for name, where in tallies:
        if where == EVERYTHING:
            details[f"{name} mean"] = round(tallies[name, where].mean, 4)
            if measure_of(name) is not None:
                details[f"{name} count"] = tallies[name, where].count
    return Finding(
        verdict="worse" if total >= 1 / alpha else "no worse" if fine else "go on",
        e_value=total,
        count=max((tally.count for (name, _), tally in tallies.items() if measure_of(name) is not None), default=0),
        measure=loudest[0],
        slice=loudest[1],
        mean=tallies[loudest].mean if loudest in tallies else 0.0,
        needed=_needed(judged, alpha),
        details=details,
    )


def _needed(judged: Sequence[Tally | None], alpha: float) -> int:
    """Return how many observations every measure needs until `no worse`, if future ones are like the past ones."""
    most = 0
    for tally in judged:
        if tally is None or not tally.count or max(tally.fine) <= 0:
            return 0
        growth = [fine / tally.count for fine in tally.fine]
        most = max(most, _reached([one for one in growth if one > 0], 1 / alpha))
    return most


def _reached(growth: Sequence[float], goal: float) -> int:
    """Return after how many steps the wealth of one of three such growing bets reaches a goal."""

    def wealth_after(steps: int) -> float:
        return sum(math.exp(min(one * steps, 700.0)) for one in growth) / len(EVEN)

    low, high = 0, 1
    while wealth_after(high) < goal:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wealth_after(middle) >= goal else (middle, high)
    return high


def _staked(tallies: Mapping[tuple[str, str], Tally]) -> Iterable[tuple[tuple[str, str], float, Measure]]:
    """Yield each tested tally with its stake. The stakes add up to at most 1."""
    # stable order: tallies without a stored place come last
    order = sorted(tallies, key=lambda key: tallies[key].place or math.inf)
    slices = _unique(where for _, where in order if where != EVERYTHING and not where.startswith(STEP))
    steps = _unique(where for _, where in order if where.startswith(STEP))
    judges = _unique(name for name, where in order if where == EVERYTHING and name.startswith((CHECK, PREFERENCE)))
    parts = {EVERYTHING: OF_ALL}
    parts |= {where: OF_SLICES * _share(number) for number, where in enumerate(slices, 1)}
    parts |= {where: OF_STEPS * _share(number) for number, where in enumerate(steps, 1)}
    for name, where in order:
        measure = measure_of(name)
        if measure is None:
            continue
        if name in BY_NAME:
            yield (name, where), parts[where] * measure.stake, measure
        elif where == EVERYTHING:
            yield (name, where), OF_JUDGES * _share(judges.index(name) + 1), measure


def _share(number: int) -> float:
    return 1 / (number * (number + 1))


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _sum(a: Three, b: Three) -> Three:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _three(values: Sequence[float]) -> Three:
    first, second, third = values
    return first, second, third
