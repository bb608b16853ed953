"""Linear program over waiting requests: which begin now, where, and the prices for the others.

Time is split into slots that grow with their distance from now. Variables: the share of a group of similar requests
that begins on back end b in slot s. Every request begins once, or is missed at a price that no back end reaches; the
work that begins on b in s fits into the free time of b there. Requests are similar if their lengths and remaining times
fall into the same steps, so the size of the program depends on the number of kinds, not of requests.

Solved by HiGHS through SciPy (Huangfu and Hall, 2018). Rounding: of a split group the greater part begins; and a
request that could not begin after this slot begins now.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from ashore.data.dispatch.model import Backend, Request

SLOTS_S: Final = (1, 1, 2, 2, 4, 8, 16, 32, 64)
"""Lengths of the slots from now on; later work waits in the last one."""
STARTS_S: Final = tuple(float(sum(SLOTS_S[:slot])) for slot in range(len(SLOTS_S)))
MISSED: Final = 40.0
"""Cost of a missed deadline, in units of the request's price on the dearest back end that accepts it."""
EARLIER: Final = 1e-4
"""Share of its cost that a request gains by beginning a second earlier: of two ways that cost the same, the sooner."""
SAFETY: Final = 1.25
"""Time to begin before a deadline, in times that the request takes alone: others come, and share the device."""
SPARE_S: Final = 2.0
"""Added to it: two solutions."""
RESERVE: Final = 0.03
"""Share of a device that is left out of the plan: at its whole rate, everybody's answer takes longer than planned."""
STEP: Final = 1.5
"""Lengths within this factor are alike."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected requests: their kind, number, and seconds from now."""

    kind: Request
    number: float
    in_s: float


@dataclass(frozen=True, slots=True)
class Prices:
    """Shadow price of a device-second of each back end in each slot, added to its cost; valid from `at_s` on."""

    at_s: float = 0.0
    per_s: tuple[tuple[float, ...], ...] = ()

    def of(self, backend: int, in_s: float, takes_s: float) -> float:
        """Return the price of a device-second spread evenly over `takes_s` seconds, `in_s` from now."""
        if not self.per_s:
            return 0.0
        return float(np.dot(self.per_s[backend], _spread(np.array([in_s]), np.array([takes_s]))[0]))


@dataclass(frozen=True, slots=True)
class Solved:
    """Requests that begin now, by number, with their back end; and the prices for later ones."""

    begin: Mapping[int, int]
    prices: Prices
    missed: tuple[int, ...] = ()
    """Requests that cannot meet their deadline anywhere."""


def _spread(begin_s: NDArray[np.float64], takes_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of work of this start and duration in each slot, (n, slots)."""
    end_s = begin_s + np.maximum(takes_s, 1e-3)
    overlap = np.minimum(end_s[..., None], _ENDS) - np.maximum(begin_s[..., None], _BEGINS)
    shares: NDArray[np.float64] = np.maximum(overlap, 0.0) / (end_s - begin_s)[..., None]
    return shares


_BEGINS: Final = np.array(STARTS_S)
_ENDS: Final = np.append(_BEGINS[1:], np.inf)


def _slot(in_s: float) -> int:
    for slot in range(len(STARTS_S) - 1, 0, -1):
        if in_s >= STARTS_S[slot]:
            return slot
    return 0


@dataclass(slots=True)
class _Group:
    """Similar requests."""

    weight: float
    first_slot: int
    latest_s: tuple[float, ...]
    """By back end: in how many seconds they must begin at the latest; below 0: cannot be in time there."""
    work_s: tuple[float, ...]
    takes_s: tuple[float, ...]
    """Duration of one of them there, at its single-stream rate."""
    cost: tuple[float, ...]
    members: list[Request] = field(default_factory=list)


def choose(
    waiting: Sequence[Request],
    backends: Sequence[Backend],
    left_s: Sequence[Sequence[float]],
    now_s: float,
    *,
    expected: Sequence[Expected] = (),
    room: Sequence[int] | None = None,
    exact: bool = False,
) -> Solved:
    """Return the requests that begin now, with their back ends.

    Args:
        waiting: Waiting requests.
        backends: The available back ends.
        left_s: Free device-seconds of each back end in each slot of `SLOTS_S`.
        now_s: The time, as in `arrival_s` and `deadline_s`.
        expected: Forecast of arrivals.
        room: How many may begin on each back end now; default: as many as its time allows.
        exact: Do not group requests, to measure the cost of grouping.
    """
    in_time: list[Request] = []
    missed: list[Request] = []
    for request in waiting:
        fits = any(_in_time(request, one, now_s) for one in backends)
        (in_time if fits else missed).append(request)
    groups = _grouped(in_time, backends, now_s, exact=exact)
    for one in expected:
        groups.append(_foreseen(one, backends, now_s))
    if not groups:
        return Solved({}, Prices(now_s), tuple(one.number for one in missed))
    solution = _solve(groups, backends, left_s)
    begin = _rounded(groups, backends, solution.starting_now, room)
    return Solved(begin, Prices(now_s, solution.prices), tuple(one.number for one in missed))


def _begin_by(request: Request, backend: Backend, now_s: float) -> float:
    """Return the seconds until it must begin: 0 if only the margin is missing, below 0 if it is too late."""
    if not _in_time(request, backend, now_s):
        return -1.0
    return max(0.0, request.deadline_s - SAFETY * backend.alone_s(request) - SPARE_S - now_s)


def _in_time(request: Request, backend: Backend, now_s: float) -> bool:
    return backend.takes(request) and now_s + backend.alone_s(request) <= request.deadline_s


def _group(requests: Sequence[Request], backends: Sequence[Backend], now_s: float, first_slot: int = 0) -> _Group:
    number = len(requests)
    latest = tuple(min(_begin_by(one, backend, now_s) for one in requests) for backend in backends)
    work = tuple(sum(backend.work_s(one) for one in requests) / number for backend in backends)
    takes = tuple(sum(backend.alone_s(one) for one in requests) / number for backend in backends)
    cost = tuple(work_s * backend.price_per_s for work_s, backend in zip(work, backends, strict=True))
    return _Group(
        float(number), first_slot, latest, work, takes, cost, sorted(requests, key=lambda one: one.deadline_s)
    )


def _foreseen(one: Expected, backends: Sequence[Backend], now_s: float) -> _Group:
    group = _group([one.kind], backends, now_s, _slot(one.in_s))
    group.weight, group.members = one.number, []
    return group


def _grouped(requests: Sequence[Request], backends: Sequence[Backend], now_s: float, *, exact: bool) -> list[_Group]:
    alike: dict[object, list[Request]] = {}
    for one in requests:
        key: object = one.number
        if not exact:
            latest = tuple(_slot(at) if (at := _begin_by(one, backend, now_s)) >= 0 else -1 for backend in backends)
            key = (_step(one.prompt_tokens), _step(one.output_tokens), latest)
        alike.setdefault(key, []).append(one)
    return [_group(members, backends, now_s) for members in alike.values()]


def _step(tokens: int) -> int:
    return round(math.log(tokens + 8, STEP))


@dataclass(frozen=True, slots=True)
class _Solution:
    starting_now: list[dict[int, float]]
    """For each group: how many begin on which back end in the first slot."""
    prices: tuple[tuple[float, ...], ...]


def _solve(groups: Sequence[_Group], backends: Sequence[Backend], left_s: Sequence[Sequence[float]]) -> _Solution:
    many, slots = len(backends), len(SLOTS_S)
    starts_s = np.array(STARTS_S)
    weight = np.array([one.weight for one in groups])
    cost = np.array([one.cost for one in groups]) * weight[:, None]
    work = np.array([one.work_s for one in groups]) * weight[:, None]
    latest_s = np.array([one.latest_s for one in groups])
    first = np.array([one.first_slot for one in groups])
    possible = cost[latest_s >= 0]
    unit = (float(possible.mean()) if possible.size else 0.0) or 1.0  # the solver's tolerances are absolute
    may = (starts_s <= latest_s[:, :, None]) & (np.arange(slots) >= first[:, None, None])
    group, back, slot = np.nonzero(may)
    number, missing = len(group), np.arange(len(groups))
    costs = cost[group, back] / unit * (1 + EARLIER * starts_s[slot])
    takes_s = np.array([one.takes_s for one in groups])
    share = _spread(starts_s[slot], takes_s[group, back])
    columns, into = np.nonzero(share > 1e-9)
    used, compact = np.unique(back[columns] * slots + into, return_inverse=True)
    lengths_s = np.array(SLOTS_S) * np.array([[one.count] for one in backends])
    left = np.array(left_s, dtype=float) - RESERVE * lengths_s
    capacity = np.maximum(0.0, left.reshape(many * slots)[used])
    amount = work[group, back][columns] * share[columns, into]
    fits = csr_matrix((amount, (compact, columns)), shape=(len(used), number + len(groups)))
    owners = np.concatenate([group, missing])
    once = csr_matrix((np.ones(len(owners)), (owners, np.arange(len(owners)))), shape=(len(groups), len(owners)))
    solved: Any = linprog(
        np.concatenate([costs, MISSED * cost.max(axis=1) / unit]),
        A_ub=fits if len(used) else None,
        b_ub=capacity if len(used) else None,
        A_eq=once,
        b_eq=np.ones(len(groups)),
        bounds=(0, None),
        method="highs",
    )
    starting: list[dict[int, float]] = [{} for _ in groups]
    for column in np.nonzero((solved.x[:number] > 1e-6) & (slot == 0))[0]:
        starting[group[column]][int(back[column])] = float(solved.x[column] * weight[group[column]])
    prices = np.zeros(many * slots)
    if len(used):
        prices[used] = np.maximum(0.0, -solved.ineqlin.marginals) * unit
    return _Solution(starting, tuple(tuple(map(float, row)) for row in prices.reshape(many, slots)))


def _rounded(
    groups: Sequence[_Group],
    backends: Sequence[Backend],
    starting: Sequence[Mapping[int, float]],
    room: Sequence[int] | None,
) -> dict[int, int]:
    left = list(room) if room is not None else [len(groups) * 1_000_000] * len(backends)
    begin: dict[int, int] = {}
    for group, shares in zip(groups, starting, strict=True):
        members = list(group.members)
        for backend, share in sorted(shares.items(), key=lambda pair: -pair[1]):
            for _ in range(min(math.floor(share + 0.5), left[backend], len(members))):
                begin[members.pop(0).number] = backend
                left[backend] -= 1
        if members and max(group.latest_s) < SLOTS_S[0]:  # now or never
            fit = [b for b, latest_s in enumerate(group.latest_s) if latest_s >= 0]
            for one in members:
                open_ones = [b for b in fit if left[b] > 0]
                if open_ones:
                    at = max(open_ones, key=lambda b: (left[b], -group.cost[b]))
                    begin[one.number] = at
                    left[at] -= 1
    return begin
