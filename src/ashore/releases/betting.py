"""A test that may be looked at after every observation: wealth of bets against "no worse" and against "worse". Pure.

Who bets a part of their wealth, observation after observation, that a mean is above a bound while it is not, does not
get richer on average; that their wealth ever reaches 1/alpha has a probability of at most alpha, however often and for
whatever reason somebody looks (Ville 1939). So wealth is evidence. Bets of several fixed sizes run beside each other,
and their wealths are averaged; since each is a product over the observations, workers may add up logarithms.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024), section 4;
Vovk and Wang, "E-values: calibration, combination and applications", Annals of Statistics 49 (2021), section 3 (an
average of e-values is one, whatever their dependence).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

BETS: Final = (0.1, 0.35, 0.98)
"""Parts of the largest bet that cannot lose everything: few, since each more takes a share of the stake."""
ALPHA: Final = 0.05
"""Probability of calling an equal candidate worse, over all looks, measures and slices together."""
OF_ALL: Final = 0.8
"""Part of the stake on all requests together; the rest is on slices, the n-th that appears with 1/(n(n+1)) of it."""
EVERYTHING: Final = ""
"""The slice of all requests."""

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


MEASURES: Final = (
    Measure(name="errors", low=-1, high=1, tolerated=0.002, limit=0.03, stake=0.55),
    Measure(name="slower", low=0, high=1, tolerated=0.5, limit=0.65, stake=0.15),
    Measure(name="likelihood", low=-1, high=1, tolerated=0.05, limit=0.12, stake=0.15),
    Measure(name="defects", low=-1, high=1, tolerated=0.02, limit=0.1, stake=0.15),
)
"""errors: 1 where the candidate failed and what is live did not, -1 the other way round. slower: 1 where its time for
a token is longer by 5 % than that of a request to the live one nearest in time. likelihood: how much less likely, in
nats a token, an answer of the live one is to the candidate than to itself. defects: as errors, for answers that are
empty, refuse, break their schema, or run into their length limit."""
BY_NAME: Final[Mapping[str, Measure]] = {measure.name: measure for measure in MEASURES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What is known of one measure in one slice."""

    count: int = 0
    total: float = 0.0
    worse: tuple[float, ...] = (0.0,) * len(BETS)
    """Logarithm of the wealth of each bet that the mean is above what is tolerated."""
    fine: tuple[float, ...] = (0.0,) * len(BETS)
    """Logarithm of the wealth of each bet that the mean is below the limit."""

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            count=self.count + other.count,
            total=self.total + other.total,
            worse=tuple(a + b for a, b in zip(self.worse, other.worse, strict=True)),
            fine=tuple(a + b for a, b in zip(self.fine, other.fine, strict=True)),
        )


def observed(measure: Measure, value: float) -> Tally:
    """Return the tally of one observation; values beyond the bounds count as the bounds."""
    value = min(measure.high, max(measure.low, value))
    up, down = 1 / (measure.tolerated - measure.low), 1 / (measure.high - measure.limit)
    return Tally(
        count=1,
        total=value,
        worse=tuple(math.log1p(bet * up * (value - measure.tolerated)) for bet in BETS),
        fine=tuple(math.log1p(bet * down * (measure.limit - value)) for bet in BETS),
    )


def wealth(logarithms: Iterable[float]) -> float:
    """Return the average wealth of the bets."""
    values = tuple(logarithms)
    return sum(math.exp(min(value, 700.0)) for value in values) / len(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a look at all tallies says."""

    verdict: Verdict
    e_value: float
    """Evidence that the candidate is worse; 1/alpha is enough."""
    count: int
    """Observations of the measure that has most."""
    measure: str = ""
    """What speaks loudest against the candidate."""
    slice: str = ""
    details: Mapping[str, str | int | float] = field(default_factory=dict)


def look(tallies: Mapping[tuple[str, str], Tally], *, alpha: float = ALPHA) -> Finding:
    """Return what the tallies of a candidate say by now.

    The verdict is `worse` where all stakes together have grown to 1/alpha; `no worse` where on all requests each
    measure that was observed has reached as much against its limit; else `go on`.

    Args:
        tallies: By measure and slice, in the order in which slices appeared; the slice `EVERYTHING` is all requests.
        alpha: Probability of a false alarm.
    """
    slices = list(dict.fromkeys(name for _, name in tallies if name != EVERYTHING))
    stakes = {EVERYTHING: OF_ALL} | {name: (1 - OF_ALL) / ((n + 1) * (n + 2)) for n, name in enumerate(slices)}
    left = 1 - OF_ALL - sum(stakes[name] for name in slices)
    total, loudest, most = left, ("", EVERYTHING), 0.0
    for name, part in stakes.items():
        for measure in MEASURES:
            tally = tallies.get((measure.name, name))
            grown = part * measure.stake * (1.0 if tally is None else wealth(tally.worse))
            total += grown
            if tally is not None and grown > most:
                loudest, most = (measure.name, name), grown
    overall = {m.name: t for m in MEASURES if (t := tallies.get((m.name, EVERYTHING))) is not None}
    fine = bool(overall) and all(wealth(tally.fine) >= 1 / alpha for tally in overall.values())
    details: dict[str, str | int | float] = {}
    for name, tally in overall.items():
        details |= {f"{name} mean": round(tally.mean, 4), f"{name} count": tally.count}
    for (name, where), tally in tallies.items():
        if name not in BY_NAME and where == EVERYTHING:
            details[f"{name} mean"] = round(tally.mean, 4)
    return Finding(
        verdict="worse" if total >= 1 / alpha else "no worse" if fine else "go on",
        e_value=total,
        count=max((tally.count for tally in tallies.values()), default=0),
        measure=loudest[0],
        slice=loudest[1],
        details=details,
    )
