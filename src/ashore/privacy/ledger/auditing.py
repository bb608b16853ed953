"""Privacy auditing: a lower bound on a training run's epsilon, from the success of a membership attack.

Canaries are created, and a fair coin decides for each whether it is trained on. An attacker with the model, but not the
coins, then scores each: the higher, the more it looks trained on. One run with many canaries gives a lower bound on
epsilon (Steinke, Nasr and Jagielski 2023), which holds whatever the mechanism is: where it lies above the epsilon that
was claimed, the claim is wrong. A bound below it proves nothing; a better attack may find more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ashore.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONFIDENCE: Final = 0.95
FEWEST: Final = 20
"""Scores on each side; with fewer, nothing could be shown."""
SHARES: Final = (1, 2, 4, 8, 16, 32)
"""One in so many canaries is guessed: the surest ones. Each share is a test; the doubt is divided among them."""
MOST_EPSILON: Final = 50.0
FALSE_ALARMS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Result of an attack with known truth."""

    members: int
    """That were trained on."""
    others: int
    least_epsilon: float
    """Nats: with `confidence`, epsilon is at least this."""
    most_provable: float
    """The bound if every guess had been right: more canaries can prove more."""
    guesses: int
    right: int
    """Of the guesses that proved most."""
    confidence: float
    area: float
    """Probability that a member has the higher score of the two, one of each kind: 0.5 is chance."""
    area_low: float
    area_high: float
    """Where 95 of 100 attacks on a model that learned nothing of its members would find it: around 0.5."""
    exposure_bits: float
    """Median over members of log2 of (others / rank among them): 1 is chance."""
    found_at_one_percent: float
    """Share of members above all but one in a hundred of the others: 0.01 is chance."""

    @property
    def at_chance(self) -> bool:
        """Whether the scores separate members from others no better than chance."""
        return self.area_low <= self.area <= self.area_high


def judge(members: Sequence[float], others: Sequence[float], delta: float) -> Verdict:
    """Return what the scores prove.

    Args:
        members: Scores of canaries that were trained on.
        others: Scores of those that were not; a fair coin decided for each.
        delta: Delta for which epsilon is reported.

    Raises:
        InvalidRequest: there are too few.
    """
    if min(len(members), len(others)) < FEWEST:
        raise InvalidRequest(
            f"{len(members)} members and {len(others)} others", hint=f"at least {FEWEST} of each; 200 show much more"
        )
    inside, outside = np.asarray(members, np.float64), np.asarray(others, np.float64)
    scores = np.concatenate([inside, outside])
    truth = np.concatenate([np.ones(len(inside), np.bool_), np.zeros(len(outside), np.bool_)])
    # Order equal scores independently of the truth.
    order = np.lexsort((np.random.default_rng(0).permutation(len(scores)), scores))
    best, guesses, right = 0.0, 0, 0
    for share in SHARES:
        half = len(scores) // share // 2
        if half < 1:
            continue
        hits = int(truth[order[-half:]].sum() + (~truth[order[:half]]).sum())
        found = least_epsilon(len(scores), 2 * half, hits, delta, (1 - CONFIDENCE) / len(SHARES))
        if found > best or not guesses:
            best, guesses, right = found, 2 * half, hits
    whole = 2 * (len(scores) // 2)
    ranks = 1 + (outside[None, :] > inside[:, None]).sum(axis=1)
    spread = 1.96 * math.sqrt((len(inside) + len(outside) + 1) / (12 * len(inside) * len(outside)))
    return Verdict(
        members=len(inside),
        others=len(outside),
        least_epsilon=best,
        most_provable=least_epsilon(len(scores), whole, whole, delta, (1 - CONFIDENCE) / len(SHARES)),
        guesses=guesses,
        right=right,
        confidence=CONFIDENCE,
        area=float((inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2),
        area_low=0.5 - spread,
        area_high=0.5 + spread,
        exposure_bits=float(np.median(np.log2((len(outside) + 1) / ranks))),
        found_at_one_percent=float((inside > np.quantile(outside, 1 - FALSE_ALARMS)).mean()),
    )


def least_epsilon(canaries: int, guesses: int, right: int, delta: float, doubt: float) -> float:
    """Return the largest epsilon that so many correct guesses rule out, except with probability `doubt`; 0: none."""
    if _probability(canaries, guesses, right, 0.0, delta) >= doubt:
        return 0.0
    low, high = 0.0, MOST_EPSILON
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if _probability(canaries, guesses, right, middle, delta) < doubt else (low, middle)
    return low


def _probability(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the highest probability of so many correct guesses under (epsilon, delta): theorem 5.2 there."""
    from scipy.stats import binom

    accuracy = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(right - 1, guesses, accuracy))
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, accuracy))
    alpha = float((below / np.arange(1, right + 1)).max()) if right else 0.0
    return min(1.0, beta + 2 * canaries * delta * alpha)
