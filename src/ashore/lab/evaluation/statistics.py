"""Uncertainty of figures: bootstrap intervals, and a paired test for every difference.

Whole items are resampled with replacement: an item of a task, a window of a text. Two models that saw the
same items are compared item by item, which is far sharper than comparing two intervals.
Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile interval); McNemar 1947 in its exact
form; Wilson 1927 for the interval where all items agree, which resampling cannot give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import InvalidRequest

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
_Z: Final = 1.959964
_MOST_CELLS: Final = 4_000_000
"""Counts held at once while drawing."""

Floats = NDArray[np.float64]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Difference between two models on the same items, with its 95 % interval."""

    value: float
    low: float
    high: float
    p_value: float
    """Probability of a difference at least so large if there were none; two-sided."""
    test: str
    """`paired bootstrap` or `McNemar exact`."""


def mean(values: Sequence[float] | Floats, *, seed: int = 0) -> Estimate:
    """Return the mean of a figure over items: a share where each is 0 or 1.

    Raises:
        InvalidRequest: there are no items.
    """
    found = ratio(values, np.ones(len(values)), seed=seed)
    if found.low == found.high and found.value in (0.0, 1.0):
        low, high = _without_spread(found.value, len(values))
        return Estimate(value=found.value, low=low, high=high)
    return found


def ratio(
    numerators: Sequence[float] | Floats,
    denominators: Sequence[float] | Floats,
    *,
    of: Callable[[Floats], Floats] = np.asarray,
    seed: int = 0,
) -> Estimate:
    """Return `of(sum of numerators / sum of denominators)` over items, such as a perplexity over windows.

    Args:
        numerators: One for each item.
        denominators: One for each item, above 0: its weight.
        of: A rising function of the ratio.
        seed: Of the draws; equal seeds give equal intervals.

    Raises:
        InvalidRequest: there are no items.
    """
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if not top.size:
        raise InvalidRequest("there are no items to compute a figure from")
    value = float(of(np.array([top.sum() / bottom.sum()]))[0])
    rates = top / bottom
    if np.ptp(rates) == 0:
        return Estimate(value=value, low=value, high=value)
    sums = _draws(np.stack([top, bottom]), seed)
    low, high = np.quantile(of(sums[0] / sums[1]), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value=value, low=float(low), high=float(high))


def mean_difference(before: Sequence[float] | Floats, after: Sequence[float] | Floats, *, seed: int = 0) -> Difference:
    """Return the change of the mean over the same items; for right and wrong (0 and 1) the test is McNemar's."""
    first, second = _pair(before, after)
    if set(np.unique(first)) | set(np.unique(second)) <= {0.0, 1.0}:
        lost, won = int(((first == 1) & (second == 0)).sum()), int(((first == 0) & (second == 1)).sum())
        drawn = _difference(first, second, np.ones_like(first), np.asarray, seed)
        return msgspec.structs.replace(drawn, p_value=mcnemar(lost, won), test="McNemar exact")
    return _difference(first, second, np.ones_like(first), np.asarray, seed)


def ratio_change(
    before: Sequence[float] | Floats,
    after: Sequence[float] | Floats,
    denominators: Sequence[float] | Floats,
    *,
    of: Callable[[Floats], Floats] = np.asarray,
    seed: int = 0,
) -> Difference:
    """Return `of(ratio after - ratio before)` over the same items, such as the relative change of a perplexity."""
    first, second = _pair(before, after)
    return _difference(first, second, np.asarray(denominators, np.float64), of, seed)


def mcnemar(lost: int, won: int) -> float:
    """Return the exact two-sided p-value for items that only one of two models had right."""
    total, fewer = lost + won, min(lost, won)
    if total == 0:
        return 1.0
    logs = [_log_choose(total, k) - total * math.log(2) for k in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(math.exp(value) for value in logs))


def _difference(
    first: Floats, second: Floats, weights: Floats, of: Callable[[Floats], Floats], seed: int
) -> Difference:
    changes = second - first
    value = float(of(np.array([changes.sum() / weights.sum()]))[0])
    if not np.any(changes):
        return Difference(value=value, low=value, high=value, p_value=1.0, test="paired bootstrap")
    sums = _draws(np.stack([changes, weights]), seed)
    drawn = sums[0] / sums[1]
    low, high = np.quantile(of(drawn), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    below, above = int((drawn <= 0).sum()), int((drawn >= 0).sum())
    p_value = min(1.0, 2 * (min(below, above) + 1) / (RESAMPLES + 1))
    return Difference(value=value, low=float(low), high=float(high), p_value=p_value, test="paired bootstrap")


def _pair(before: Sequence[float] | Floats, after: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if first.shape != second.shape or not first.size:
        raise InvalidRequest(
            f"cannot compare {first.size} items with {second.size}: both models must be evaluated on the same items",
            hint="evaluate both with the same tasks, texts and --limit",
        )
    return first, second


def _draws(rows_RN: Floats, seed: int) -> Floats:
    """Return the sums [R, B] of `RESAMPLES` draws of N items, with replacement."""
    number = rows_RN.shape[1]
    random = np.random.default_rng(seed)
    share = np.full(number, 1 / number)
    at_once = max(1, _MOST_CELLS // number)
    sums = [
        rows_RN @ random.multinomial(number, share, size=min(at_once, RESAMPLES - done)).T
        for done in range(0, RESAMPLES, at_once)
    ]
    return np.concatenate(sums, axis=1)


def _without_spread(rate: float, number: int) -> tuple[float, float]:
    """Return Wilson's interval for a share that is 0 or 1."""
    edge = _Z**2 / (number + _Z**2)
    return (0.0, edge) if rate == 0 else (1 - edge, 1.0)


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
