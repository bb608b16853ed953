"""Noise without a seed: exact samples of the discrete Gaussian (Canonne, Kamath and Steinke 2020), and of the
exponential mechanism (McSherry and Talwar 2007).

Whole numbers and the system's randomness alone; no floating point, whose gaps would tell the value (Mironov 2012).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from fractions import Fraction


def discrete_gaussian(variance: Fraction) -> int:
    """Return a whole number drawn with a probability that is proportional to exp(-x² / (2 variance))."""
    scale = math.isqrt(variance.numerator // variance.denominator) + 1
    while True:
        drawn = _discrete_laplace(scale)
        off = abs(drawn) - variance / scale
        if _bernoulli_exp(off * off / (2 * variance)):
            return drawn


def exponential_choice(scores: Sequence[Fraction], epsilon: Fraction) -> int:
    """Return the index of a candidate, drawn with a probability proportional to exp(epsilon score / 2).

    Args:
        scores: Score of each candidate, at least one; whole or with small denominators. A unit changes none by more
            than 1.
        epsilon: Privacy loss of the choice.
    """
    best = max(scores)
    while True:
        drawn = secrets.randbelow(len(scores))
        if _bernoulli_exp((best - scores[drawn]) * epsilon / 2):
            return drawn


def _discrete_laplace(scale: int) -> int:
    while True:
        low = secrets.randbelow(scale)
        if not _bernoulli_exp(Fraction(low, scale)):
            continue
        high = 0
        while _bernoulli_exp(Fraction(1)):
            high += 1
        size = low + scale * high
        negative = secrets.randbelow(2)
        if negative and not size:
            continue
        return -size if negative else size


def _bernoulli_exp(gamma: Fraction) -> bool:
    """Return true with the probability exp(-gamma)."""
    while gamma > 1:
        if not _bernoulli_exp(Fraction(1)):
            return False
        gamma -= 1
    count = 1
    while secrets.randbelow(gamma.denominator * count) < gamma.numerator:
        count += 1
    return count % 2 == 1
