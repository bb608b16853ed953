"""Policies that decide which waiting requests begin where: by cost, and at arrival where that fails.

`decide` is called after arrivals, after completions, and each `EVERY_S`; it returns the back end of each request, by
number, that begins now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from ashore.data.dispatch.fleet import Fleet
from ashore.data.dispatch.model import Request
from ashore.data.dispatch.program import EARLIER, STARTS_S, Expected, Prices, choose

EVERY_S: Final = 1.0
"""Between two solutions."""
PAST_S: Final = 20.0
AHEAD_S: Final = ((1, 1.0), (2, 2.0), (4, 4.0), (8, 8.0))
"""Forecast: arrivals in the next seconds equal those in as many past seconds."""
KINDS: Final = 8
"""Requests of the past that stand for the coming ones."""


@dataclass(slots=True)
class CheapestInTime:
    """Each at its arrival on the cheapest back end whose idlest device would finish it in time."""

    def decide(self, waiting: Sequence[Request], fleet: Fleet, now_s: float, *, tick: bool) -> Mapping[int, int]:
        begin: dict[int, int] = {}
        room = [fleet.room(at) for at in range(len(fleet.backends))]
        added_s = [0.0] * len(fleet.backends)
        for one in waiting:
            options = []
            for at, backend in enumerate(fleet.backends):
                if not room[at] or not backend.takes(one):
                    continue
                load_s = fleet.idlest(at).load_s(now_s) + added_s[at]
                until_s = now_s + max(backend.alone_s(one), load_s + backend.work_s(one))
                options.append((until_s > one.deadline_s, backend.cost(one), until_s, at))
            if options:
                late, _, _, at = min(options)
                if late:
                    at = min(options, key=lambda option: option[2])[3]
                begin[one.number] = at
                room[at] -= 1
                added_s[at] += fleet.backends[at].work_s(one) / fleet.backends[at].count
        return begin


@dataclass(slots=True)
class ByCost:
    """Late binding: a linear program each second, its prices in between."""

    exact: bool = False
    prices: Prices = field(default_factory=Prices)
    seen: deque[Request] = field(default_factory=deque)
    known: int = -1

    def decide(self, waiting: Sequence[Request], fleet: Fleet, now_s: float, *, tick: bool) -> Mapping[int, int]:
        new = [one for one in waiting if one.number > self.known]
        self.seen.extend(new)
        self.known = max((one.number for one in new), default=self.known)
        while self.seen and self.seen[0].arrival_s < now_s - PAST_S:
            self.seen.popleft()
        room = [fleet.room(at) for at in range(len(fleet.backends))]
        if not tick:
            return self._by_prices(new, fleet, room, now_s)
        left = [fleet.left_s(at) for at in range(len(fleet.backends))]
        solved = choose(
            waiting, fleet.backends, left, now_s, expected=self._expected(now_s), room=room, exact=self.exact
        )
        self.prices = solved.prices
        begin = dict(solved.begin)
        late = set(solved.missed)
        for one in (one for one in waiting if one.number in late):  # late anyway: the earliest finish
            fit = [at for at, backend in enumerate(fleet.backends) if room[at] > 0 and backend.takes(one)]
            if fit:
                begin[one.number] = min(fit, key=lambda at: fleet.backends[at].alone_s(one))
        return begin

    def _by_prices(self, new: Sequence[Request], fleet: Fleet, room: list[int], now_s: float) -> Mapping[int, int]:
        begin: dict[int, int] = {}
        if not self.prices.per_s:
            return begin
        since_s = now_s - self.prices.at_s
        for one in new:  # the program has weighed the others
            best: tuple[float, float, int] | None = None
            for at, backend in enumerate(fleet.backends):
                if not backend.takes(one):
                    continue
                takes_s = backend.alone_s(one)
                latest_s = one.deadline_s - takes_s - now_s
                work_s = backend.work_s(one)
                for start_s in STARTS_S[:6]:
                    if start_s > latest_s:
                        break
                    cost = work_s * (backend.price_per_s + self.prices.of(at, since_s + start_s, takes_s))
                    cost *= 1 + EARLIER * start_s
                    if best is None or cost < best[0] - 1e-15:
                        best = cost, start_s, at
            if best is not None and best[1] == 0 and room[best[2]] > 0 and fleet.idlest(best[2]).has_rate_for(one):
                begin[one.number] = best[2]
                room[best[2]] -= 1
        return begin

    def _expected(self, now_s: float) -> list[Expected]:
        past = list(self.seen)
        if len(past) < KINDS or now_s <= 0:
            return []
        rate_per_s = len(past) / min(PAST_S, now_s)
        kinds = past[:: max(1, len(past) // KINDS)][:KINDS]
        number = rate_per_s / len(kinds)
        coming = []
        for in_s, seconds in AHEAD_S:
            for kind in kinds:
                comes_s = now_s + in_s
                due_s = comes_s + kind.deadline_s - kind.arrival_s
                one = replace(kind, number=-1, arrival_s=comes_s, deadline_s=due_s)
                coming.append(Expected(one, number * seconds, float(in_s)))
        return coming
