"""Lower bound of any policy's cost, given the whole trace: a Lagrangian bound.

The relaxation: the work of a request may be spread over any time from its arrival to its deadline on one back end that
could meet the deadline with it alone. For any prices of device-seconds at or above 0, the sum over requests of the
cheapest place at cost and price, less the price of all capacity, is a lower bound of the cost; so suboptimal prices
make it lower, never wrong. The prices are improved by subgradient steps (Polyak).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ashore.data.dispatch import Backend, Request

SLOT_S = 2.0


def lower_bound(
    trace: Sequence[Request], backends: Sequence[Backend], upper: float, *, steps: int = 400
) -> tuple[float, int]:
    """Return the bound of the cost, and how many requests no back end could answer in time.

    Args:
        trace: Requests, sorted by arrival.
        backends: The available back ends.
        upper: Cost of any policy that missed none; only sets the step length.
        steps: Steps of the ascent.
    """
    served = [one for one in trace if any(each.could_answer(one) for each in backends)]
    if not served:
        return 0.0, len(trace)
    slots = int(max(one.deadline_s for one in served) / SLOT_S) + 2
    first = np.array([int(one.arrival_s / SLOT_S) for one in served])
    last = np.array([int(one.deadline_s / SLOT_S) for one in served])
    work = np.array([[each.work_s(one) for each in backends] for one in served])
    able = np.array([[each.could_answer(one) for each in backends] for one in served])
    price = np.array([each.price_per_s for each in backends])
    room = np.array([each.count * SLOT_S for each in backends])
    prices = np.zeros((len(backends), slots))
    best, scale, stale = -np.inf, 1.0, 0
    for _ in range(steps):
        cheapest, where, when = _cheapest(prices, price, work, able, first, last)
        value = float(cheapest.sum() - (prices.sum(axis=1) * room).sum())
        if value > best + 1e-9 * abs(value):
            best, stale = value, 0
        else:
            stale += 1
            if stale >= 10:
                scale, stale = scale / 2, 0
        used = np.zeros_like(prices)
        np.add.at(used, (where, when), work[np.arange(len(served)), where])
        slope = used - room[:, None]
        slope[(prices <= 0) & (slope < 0)] = 0.0
        norm = float((slope**2).sum())
        if norm == 0 or scale < 1e-4:
            break
        prices = np.maximum(0.0, prices + scale * max(upper - value, 1e-9 * abs(upper)) / norm * slope)
    return best, len(trace) - len(served)


def _cheapest(
    prices: NDArray[np.float64],
    price: NDArray[np.float64],
    work: NDArray[np.float64],
    able: NDArray[np.bool_],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return for each request the least cost and price, with its back end and slot."""
    number, many = work.shape
    total, at = np.full((number, many), np.inf), np.zeros((number, many), np.int64)
    for b in range(many):
        least, where = _least_of_ranges(prices[b], first, last)
        total[:, b] = np.where(able[:, b], work[:, b] * (price[b] + least), np.inf)
        at[:, b] = where
    choice = total.argmin(axis=1)
    rows = np.arange(number)
    return total[rows, choice], choice, at[rows, choice]


def _least_of_ranges(
    values: NDArray[np.float64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the minimum of each closed range and its position, by a table of powers of two."""
    length = last - first + 1
    levels = [np.arange(len(values))]
    while (1 << len(levels)) <= int(length.max()):
        below, half = levels[-1], 1 << (len(levels) - 1)
        left, right = below[:-half], below[half:]
        levels.append(np.where(values[left] <= values[right], left, right))
    level = np.floor(np.log2(length)).astype(int)
    found = np.zeros(len(first), np.int64)
    for at, table in enumerate(levels):
        mine = level == at
        left, right = table[first[mine]], table[last[mine] - (1 << at) + 1]
        found[mine] = np.where(values[left] <= values[right], left, right)
    return values[found], found
