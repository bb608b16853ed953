"""How much more a model loses than its reference on the same tokens, and how well so many tokens tell it.

Shapes: L looks, W windows, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.optimize.ports import Losses

_DRAWS: Final = 2000
"""Draws of weights: the number of errors is right to a few hundredths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Increase:
    """Of the perplexity, relative: 0.01 is one per cent."""

    mean: float
    error: float
    """What one standard error of the mean adds; infinite where a single window tells of no spread."""
    num_tokens: int
    strays: tuple[float, ...] = ()
    """By how much each window strays from the mean, as parts of the error: their squares add up to 1. Empty where there
    is no spread."""

    @property
    def upper(self) -> float:
        """The upper end, which is held against a floor."""
        return self.mean + self.error

    def reaches(self, num_errors: float) -> float:
        """Return the mean and so many standard errors."""
        return self.mean + num_errors * self.error

    def __str__(self) -> str:
        return (
            f"{self.mean:+.2%} of perplexity as served, {self.upper:+.2%} with one standard error, "
            f"on {self.num_tokens:,} tokens"
        )


def compare_losses(mine: Losses, reference: Losses) -> Increase:
    """Return the increase from `reference` to `mine`, token by token.

    What a token costs in itself is in both and cancels out; what is left differs much less. Tokens of one window share
    their context, so windows are taken as clusters: the spread is that between them.

    Args:
        mine: Of the model that is judged.
        reference: Of the same windows.

    Source: Cochran, Sampling Techniques, 3rd edition, section 9A.2 (clusters of unequal size, ratio to size).
    """
    sums = [math.fsum(a - b for a, b in zip(*pair, strict=True)) for pair in zip(mine, reference, strict=True)]
    sizes = [len(window) for window in mine]
    num_tokens, num_windows = sum(sizes), len(sizes)
    mean = math.fsum(sums) / num_tokens
    error = math.inf
    strays: tuple[float, ...] = ()
    if num_windows > 1:
        apart = [total - mean * size for total, size in zip(sums, sizes, strict=True)]
        length = math.sqrt(math.fsum(each**2 for each in apart))
        error = length * math.sqrt(num_windows / (num_windows - 1)) / num_tokens
        strays = tuple(each / length for each in apart) if length else ()
    return Increase(
        mean=math.expm1(mean), error=math.exp(mean) * math.expm1(error), num_tokens=num_tokens, strays=strays
    )


def errors_for_looks(looks: Sequence[Increase]) -> float:
    """Return how many standard errors each of several looks at one text must bear, so that the chance that any of them
    seems better than it is by more is that of a single look and one standard error: 16 %.

    Looks at models that are nearly the same stray alike, and cost little; looks that have nothing to do with each other
    cost about as many as Bonferroni says. How alike they are is read off their windows: each gets a weight by chance,
    the same for all looks, many times over, and the largest sum of weighted strays among the looks is what counts.

    Source: Chernozhukov, Chetverikov, Kato, "Gaussian approximations and multiplier bootstrap for maxima of sums of
    high-dimensional random vectors", 2013, section 3.
    """
    strays_LW = np.array([look.strays for look in looks if look.strays])
    if len(strays_LW) < 2:
        return 1.0
    largest_D = np.sort((_weights_DW(strays_LW.shape[1]) @ strays_LW.T).max(axis=1))
    return max(1.0, float(largest_D[int(_DRAWS * NormalDist().cdf(1))]))


@lru_cache(maxsize=1)
def _weights_DW(num_windows: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal((_DRAWS, num_windows))
