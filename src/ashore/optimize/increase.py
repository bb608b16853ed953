"""How much more a model loses than its reference on the same tokens, and how well so many tokens tell it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ashore.optimize.ports import Losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Increase:
    """Of the perplexity, relative: 0.01 is one per cent."""

    mean: float
    error: float
    """What one standard error of the mean adds; infinite where a single window tells of no spread."""
    num_tokens: int

    @property
    def upper(self) -> float:
        """The upper end, which is held against a floor."""
        return self.mean + self.error

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
    if num_windows > 1:
        squares = math.fsum((total - mean * size) ** 2 for total, size in zip(sums, sizes, strict=True))
        error = math.sqrt(squares * num_windows / (num_windows - 1)) / num_tokens
    return Increase(mean=math.expm1(mean), error=math.exp(mean) * math.expm1(error), num_tokens=num_tokens)
