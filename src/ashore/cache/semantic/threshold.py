"""What an entry has learnt from being judged: a logistic model of being right, given the similarity.

logit P(right) = prior + bias + slope * (similarity - pivot). The prior comes from the level of agreement; bias and
slope start at nothing and move only by judgements, as the most probable values under Gaussian priors. So a cold entry
is trusted as far as the prior goes, one wrong answer silences it, and right ones bring it back.

The idea of a threshold per entry under an error bound is that of vCache (arXiv 2502.03771).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_PIVOT = 0.93
_BIAS_SPREAD, _SLOPE_SPREAD = 4.0, 40.0
_MOST_REMEMBERED = 64
_STEPS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One verdict on an answer that this entry gave or would have given."""

    similarity: float
    prior_logit: float
    was_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryModel:
    """The judgements of one entry and the values that fit them."""

    judgements: tuple[Judgement, ...] = ()
    bias: float = 0.0
    slope: float = 0.0

    def probability(self, similarity: float, prior_logit: float) -> float:
        """Return the probability that the entry's answer is right."""
        return _sigmoid(prior_logit + self.bias + self.slope * (similarity - _PIVOT))

    def judged(self, judgement: Judgement) -> EntryModel:
        """Return the model after one more judgement. The oldest are forgotten beyond 64."""
        kept = (*self.judgements, judgement)[-_MOST_REMEMBERED:]
        bias, slope = _fitted(kept)
        return EntryModel(judgements=kept, bias=bias, slope=slope)


def logit(probability: float) -> float:
    clipped = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(clipped / (1 - clipped))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _fitted(judgements: tuple[Judgement, ...]) -> tuple[float, float]:
    """Return the most probable bias and slope, by damped Newton steps on a strictly convex loss."""
    bias = slope = 0.0
    for _ in range(_STEPS):
        g0, g1 = bias / _BIAS_SPREAD**2, slope / _SLOPE_SPREAD**2
        h00, h01, h11 = 1 / _BIAS_SPREAD**2, 0.0, 1 / _SLOPE_SPREAD**2
        for j in judgements:
            x = j.similarity - _PIVOT
            p = _sigmoid(j.prior_logit + bias + slope * x)
            error, weight = p - j.was_right, p * (1 - p)
            g0, g1 = g0 + error, g1 + error * x
            h00, h01, h11 = h00 + weight, h01 + weight * x, h11 + weight * x * x
        determinant = h00 * h11 - h01 * h01
        step0 = (h11 * g0 - h01 * g1) / determinant
        step1 = (h00 * g1 - h01 * g0) / determinant
        size = max(abs(step0) / 2.0, abs(step1) / 20.0, 1.0)
        bias, slope = bias - step0 / size, slope - step1 / size
        if abs(step0) < 1e-6 and abs(step1) < 1e-6:
            break
    return bias, slope
