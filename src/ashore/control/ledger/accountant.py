"""Privacy accounting: exact arithmetic of differential privacy for the two mechanisms that ashore has.

- *Gaussian noise on a statistic.* Rényi differential privacy (RDP) of one order, which adds up plainly even where later
  questions depend on earlier answers (Feldman and Zrnic 2021: a filter).
- *DP-SGD*: the Gaussian mechanism on a Poisson sample, many times. The distribution of its privacy loss (PLD; Koskela
  et al. 2020, Doroshenko et al. 2022) on a grid, rounded to the side of more loss, composed by the fast Fourier
  transform.

Neighbours differ by the presence of one unit. Losses are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ashore.core.errors import InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ORDERS: Final = range(2, 513)
MOST_STEPS: Final = 10_000_000
BINS: Final = 1 << 19
"""Bins of the loss grid: their rounding costs a step half a bin."""
FINE_STEPS: Final = 500
"""Up to so many steps that is enough; for more the grid is finer, up to eight times."""
SEARCH_BINS: Final = 1 << 17
"""For the search of a noise: a coarser grid overestimates the loss, so the noise found is sufficient."""
RATES: Final = (0.5, 1, 2, 4, 8, 16, 32, 64, 128)
"""Of the exponential bound on the tail that the grid leaves out."""


def gaussian_rdp(noise: float, order: int) -> float:
    """Return the RDP of Gaussian noise on a sum, in nats. `noise`: its standard deviation for a sensitivity of 1."""
    return order / (2 * noise * noise)


def choice_rdp(epsilon: float, order: int) -> float:
    """Return the RDP of the exponential mechanism, in nats: epsilon² / 8 concentrated (Cesar and Rogers 2021)."""
    return order * epsilon * epsilon / 8


def capacity(epsilon: float, delta: float, order: int) -> float:
    """Return the RDP of an order that fits into (epsilon, delta); below 0 if none does (Canonne et al. 2020)."""
    return epsilon - math.log1p(-1 / order) + (math.log(delta) + math.log(order)) / (order - 1)


def best_order(epsilon: float, delta: float) -> int:
    """Return the order in which most Gaussian questions fit into (epsilon, delta). Chosen before the first question."""
    return max(ORDERS, key=lambda order: capacity(epsilon, delta, order) / order)


@lru_cache(maxsize=256)
def gaussian_noise(epsilon: float, delta: float) -> float:
    """Return the least noise for which one statistic alone is (epsilon, delta): Balle and Wang 2018."""
    return _least(lambda noise: _gaussian_delta(noise, epsilon) <= delta)


def _gaussian_delta(noise: float, epsilon: float) -> float:
    from scipy.special import log_ndtr, ndtr

    near = 1 / (2 * noise)
    return float(ndtr(near - epsilon * noise) - math.exp(min(700.0, epsilon + log_ndtr(-near - epsilon * noise))))


def training_epsilon(noise: float, rate: float, steps: int, delta: float, *, bins: int = BINS) -> float:
    """Return the epsilon of DP-SGD, never below the truth.

    Args:
        noise: Standard deviation of the noise of a step, for a clipping norm of 1.
        rate: Probability that a unit is in the sample of a step.
        steps: Number of steps.
        delta: The delta of the guarantee.
        bins: Bins of the loss grid, for few steps; fewer are faster, and report more loss.

    Raises:
        InvalidRequest: a value is out of range.
    """
    if not (noise > 0 and math.isfinite(noise) and 0 < rate <= 1 and 1 <= steps <= MOST_STEPS and 0 < delta < 1):
        raise InvalidRequest(
            f"noise {noise:g}, rate {rate:g}, {steps} steps, delta {delta:g} are no DP-SGD",
            hint=f"noise above 0, a rate in (0, 1], 1 to {MOST_STEPS} steps, delta in (0, 1)",
        )
    finer = min(3, max(0, math.ceil(math.log2(steps / FINE_STEPS))))
    return max(_epsilon(noise, rate, steps, delta, removed=removed, bins=bins << finer) for removed in (True, False))


def training_noise(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return slightly more than the least noise for which DP-SGD is (epsilon, delta)."""
    return _least(
        lambda noise: training_epsilon(noise, rate, steps, delta, bins=SEARCH_BINS) <= epsilon, precision=2e-3
    )


def _least(holds: Callable[[float], bool], precision: float = 1e-9) -> float:
    low, high = 1e-2, 1.0
    while not holds(high):
        low, high = high, high * 2
        if high > 1e9:
            raise InvalidRequest("no noise keeps that", hint="ask for more epsilon or delta")
    while high / low > 1 + precision:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class _Step:
    """Privacy loss of one step between neighbours with and without one unit.

    Without the unit the sum is noise alone; with it the mean is a mixture: 1 with the probability `rate`, else 0.
    """

    noise: float
    rate: float
    removed: bool
    """Whether the unit is there in the run that is looked at; else in the one that it is compared with."""

    def below(self, losses: Floats) -> Floats:
        """Return the probability of a loss of at most each of these."""
        import numpy as np
        from scipy.special import ndtr

        signed = losses if self.removed else -losses
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            rest = np.expm1(signed) + self.rate  # e^loss - (1 - rate)
            logs = np.where(signed > 500, signed, np.log(np.where(rest > 0, rest, 0)))
        at = self.noise**2 * (logs - math.log(self.rate)) + 0.5
        if self.removed:
            found = (1 - self.rate) * ndtr(at / self.noise) + self.rate * ndtr((at - 1) / self.noise)
        else:
            found = ndtr(-at / self.noise)
        return np.asarray(found)


def _epsilon(noise: float, rate: float, steps: int, delta: float, *, removed: bool, bins: int) -> float:
    import numpy as np
    from scipy.fft import irfft, rfft

    step = _Step(noise, rate, removed)
    width = _width(step, steps, delta)
    if math.isinf(width):
        return math.inf
    bin_width = 2 * width / bins
    edges = (np.arange(bins + 1, dtype=np.float64) - bins // 2) * bin_width
    reached = step.below(edges)
    masses = np.diff(reached, prepend=0.0)  # each loss counts as the edge above it
    beyond = max(0.0, 1.0 - float(reached[-1]))
    centre = float(masses @ edges)
    # Shifted by its mean, so that the sum of all steps stays around the middle of the grid.
    shift = round(centre / bin_width)
    kernel = np.zeros(bins)
    index = np.arange(bins + 1) - bins // 2 - shift
    np.add.at(kernel, index % bins, masses)
    composed = irfft(rfft(kernel) ** steps, bins)
    composed = np.roll(np.maximum(composed, 0.0), bins // 2)
    losses = (np.arange(bins) - bins // 2 + shift * steps) * bin_width
    lost = -math.expm1(steps * math.log1p(-min(beyond, 0.5))) + delta * 2e-3
    if lost >= delta:
        return math.inf
    # delta(epsilon) = sum of p (1 - e^(epsilon - loss)) over losses above epsilon; it falls in epsilon.
    positive = losses > 0
    losses, masses = losses[positive], composed[positive]
    above = np.cumsum(masses[::-1])[::-1]
    scaled = np.cumsum((masses * np.exp(-np.minimum(losses, 700)))[::-1])[::-1]
    reach = above - np.exp(np.minimum(losses, 700)) * scaled + lost
    good = np.flatnonzero(reach <= delta)
    if not len(good):
        return math.inf
    return float(losses[good[0]])


def _width(step: _Step, steps: int, delta: float) -> float:
    """Return how far the loss of all steps extends to each side of its mean, except for a thousandth of delta each."""
    import numpy as np

    edge = 4 * (1 / step.noise + 1 / (2 * step.noise**2)) + 1
    for _ in range(40):
        grid: Floats = np.linspace(-edge, edge, 20_001, dtype=np.float64)
        masses = np.diff(step.below(grid), prepend=0.0)
        if 1.0 - float(step.below(np.array([edge]))[0]) <= delta * 1e-4 / steps or edge > 600:
            break
        edge *= 1.5
    centre = float(masses @ grid) * steps
    widest = 0.0
    for side in (1.0, -1.0):
        found = math.inf
        for rate in RATES:
            exponents = side * rate * grid
            top = float(exponents.max())
            moment = top + math.log(max(float(masses @ np.exp(exponents - top)), 1e-300))
            found = min(found, (steps * moment - math.log(delta * 1e-3)) / rate - side * centre)
        widest = max(widest, found)
    # The range of a single step must fit too.
    return max(widest, edge / 2) * 1.05 if math.isfinite(widest) else math.inf
