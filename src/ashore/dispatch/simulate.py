"""A trace answered by a policy on a virtual clock.

A device shares its time among what it answers: a request alone runs at the rate of one stream, and a full device at
its whole rate, shared evenly among those that could take more (processor sharing with a cap for each). Prices count
the work and not the wall: a device that waits costs nothing, as one that others use meanwhile.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec.structs import replace

from ashore.dispatch.model import Backend, Request
from ashore.dispatch.program import EARLIER, SLOTS_S, STARTS_S, Expected, Prices, choose

EVERY_S: Final = 1.0
"""Between two solutions."""
PAST_S: Final = 20.0
AHEAD_S: Final = ((1, 1.0), (2, 2.0), (4, 4.0), (8, 8.0))
"""What comes is taken to be as the past seconds: so many seconds of it, so many seconds from now."""
KINDS: Final = 8
"""Requests of the past that stand for the coming ones."""


@dataclass(slots=True)
class _Running:
    request: Request
    left_s: float
    """Work that is left, in seconds of the device."""
    fastest: float
    """Greatest share of the device that it can use."""


@dataclass(slots=True)
class Device:
    """One device of a back end."""

    backend: Backend
    running: list[_Running] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    """Share of the device that each of them has."""
    at_s: float = 0.0
    """When the work that is left was counted."""

    @property
    def is_full(self) -> bool:
        return len(self.running) >= self.backend.max_running

    def has_rate_for(self, request: Request) -> bool:
        """Return whether one more would leave everybody the rate that they have alone."""
        share = self.backend.work_s(request) / self.backend.alone_s(request)
        return sum(one.fastest for one in self.running) + share <= 1.0

    def load_s(self, now_s: float) -> float:
        """Return the work that is left, in seconds."""
        return max(0.0, sum(one.left_s for one in self.running) - sum(self.rates) * (now_s - self.at_s))

    def begin(self, request: Request, now_s: float) -> None:
        """Answer one more."""
        self._count(now_s)
        work_s = max(1e-9, self.backend.work_s(request))
        self.running.append(_Running(request, work_s, work_s / max(work_s, self.backend.alone_s(request))))
        self.rates = _shared([one.fastest for one in self.running])

    def finish(self, now_s: float) -> list[Request]:
        """Return who is answered by now; call it when `next_s` has come."""
        self._count(now_s)
        done = [one.request for one in self.running if one.left_s <= 1e-7]
        if done:
            self.running = [one for one in self.running if one.left_s > 1e-7]
            self.rates = _shared([one.fastest for one in self.running])
        return done

    def next_s(self) -> float:
        """Return when the next one is answered, if nobody comes."""
        return self.at_s + min(
            (one.left_s / rate for one, rate in zip(self.running, self.rates, strict=True)), default=1e18
        )

    def _count(self, now_s: float) -> None:
        passed_s = now_s - self.at_s
        for one, rate in zip(self.running, self.rates, strict=True):
            one.left_s -= rate * passed_s
        self.at_s = now_s


def _shared(fastest: Sequence[float]) -> list[float]:
    """Return an even share of one device for each, but to none more than it can use."""
    if sum(fastest) <= 1.0:
        return list(fastest)
    rates, left, open_ones = [0.0] * len(fastest), 1.0, sorted(range(len(fastest)), key=fastest.__getitem__)
    for position, at in enumerate(open_ones):
        rates[at] = min(fastest[at], left / (len(open_ones) - position))
        left -= rates[at]
    return rates


@dataclass(slots=True)
class Fleet:
    """All devices, by back end."""

    backends: Sequence[Backend]
    now_s: float = 0.0
    devices: list[list[Device]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.devices = [[Device(one) for _ in range(one.count)] for one in self.backends]

    def idlest(self, backend: int) -> Device:
        """Return the device with the least to do."""
        return min(self.devices[backend], key=lambda one: (one.is_full, one.load_s(self.now_s)))

    def room(self, backend: int) -> int:
        """Return how many more could begin."""
        return sum(one.backend.max_running - len(one.running) for one in self.devices[backend])

    def left_s(self, backend: int) -> list[float]:
        """Return the device-seconds that are free in each slot from now on, once what runs has had its share."""
        taken = [0.0] * len(SLOTS_S)
        for device in self.devices[backend]:
            passed_s = self.now_s - device.at_s
            for one, rate in zip(device.running, device.rates, strict=True):
                left_s = one.left_s - rate * passed_s
                for at, length_s in enumerate(SLOTS_S):
                    used = min(left_s, one.fastest * length_s)
                    if used <= 0:
                        break
                    taken[at] += used
                    left_s -= used
        return [length_s * len(self.devices[backend]) - used for length_s, used in zip(SLOTS_S, taken, strict=True)]


class Policy(Protocol):
    """Decides who begins where. Called when requests came, one was answered, or a second has passed."""

    def decide(self, waiting: Sequence[Request], fleet: Fleet, now_s: float, *, tick: bool) -> Mapping[int, int]:
        """Return the back end for each request, by number, that begins now."""
        ...


@dataclass(slots=True)
class RoundRobin:
    """Each in turn on the next back end that takes it."""

    turn: int = 0

    def decide(self, waiting: Sequence[Request], fleet: Fleet, now_s: float, *, tick: bool) -> Mapping[int, int]:
        begin: dict[int, int] = {}
        room = [fleet.room(at) for at in range(len(fleet.backends))]
        for one in waiting:
            for step in range(len(fleet.backends)):
                at = (self.turn + step) % len(fleet.backends)
                if room[at] > 0 and fleet.backends[at].takes(one):
                    begin[one.number], self.turn = at, at + 1
                    room[at] -= 1
                    break
        return begin


@dataclass(slots=True)
class LeastLoaded:
    """Each on the back end with the least to do for each device."""

    def decide(self, waiting: Sequence[Request], fleet: Fleet, now_s: float, *, tick: bool) -> Mapping[int, int]:
        begin: dict[int, int] = {}
        room = [fleet.room(at) for at in range(len(fleet.backends))]
        for one in waiting:
            fit = [at for at, backend in enumerate(fleet.backends) if room[at] > 0 and backend.takes(one)]
            if fit:
                at = min(fit, key=lambda at: -room[at] / (len(fleet.devices[at]) * fleet.backends[at].max_running))
                begin[one.number] = at
                room[at] -= 1
        return begin


@dataclass(slots=True)
class CheapestInTime:
    """Each at its arrival on the cheapest back end whose idlest device would have it answered in time."""

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
    """Bound late: a linear program each second, its prices in between."""

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
        for one in (one for one in waiting if one.number in late):  # late anyhow: where it is answered first
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


POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {
    "cost": ByCost,
    "cheapest-in-time": CheapestInTime,
    "least-loaded": LeastLoaded,
    "round-robin": RoundRobin,
}
"""By the name that `--policy` has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy made of a trace."""

    cost: float
    answered: int
    missed: int
    """Answered late, or never begun."""
    refused: int
    """Of those: no back end could have it in time from its arrival on."""
    cost_by_backend: Mapping[str, float]
    answered_by_backend: Mapping[str, int]
    mean_s: float
    """From arrival to the whole answer."""
    p95_s: float


def simulate(trace: Sequence[Request], backends: Sequence[Backend], policy: Policy) -> Outcome:
    """Answer a trace, sorted by arrival, on a virtual clock.

    Args:
        trace: Requests whose numbers grow with their arrivals.
        backends: Where they are answered.
        policy: Who decides.
    """
    fleet = Fleet(backends)
    cost = dict.fromkeys((one.name for one in backends), 0.0)
    answered = dict.fromkeys((one.name for one in backends), 0)
    took: list[float] = []
    missed = refused = 0
    waiting: dict[int, Request] = {}
    finishing: list[tuple[float, int, int, Device]] = []
    position, now_s, tick_s, serial = 0, 0.0, 0.0, 0

    def watch(at: int, device: Device) -> None:
        nonlocal serial
        serial += 1
        heapq.heappush(finishing, (device.next_s(), serial, at, device))

    while position < len(trace) or waiting or finishing:
        candidates = [tick_s if waiting or position < len(trace) else 1e18]
        if position < len(trace):
            candidates.append(trace[position].arrival_s)
        if finishing:
            candidates.append(finishing[0][0])
        fleet.now_s = now_s = max(now_s, min(candidates))
        while finishing and finishing[0][0] <= now_s:
            due_s, _, at, device = heapq.heappop(finishing)
            if due_s < device.next_s() - 1e-9:
                continue  # somebody has come since: a later entry stands for it
            done = device.finish(now_s)
            for request in done:
                took.append(now_s - request.arrival_s)
                missed += now_s > request.deadline_s + 1e-6
                answered[backends[at].name] += 1
            if device.running:
                watch(at, device)
        while position < len(trace) and trace[position].arrival_s <= now_s:
            one = trace[position]
            position += 1
            if any(each.could_answer(one) for each in backends):
                waiting[one.number] = one
            else:
                missed, refused = missed + 1, refused + 1
        tick = now_s >= tick_s
        if tick:
            tick_s = now_s + EVERY_S
        if not waiting:
            continue
        for number, at in policy.decide(tuple(waiting.values()), fleet, now_s, tick=tick).items():
            request, device = waiting.pop(number), fleet.idlest(at)
            cost[backends[at].name] += backends[at].cost(request)
            device.begin(request, now_s)
            watch(at, device)
    took.sort()
    return Outcome(
        cost=sum(cost.values()),
        answered=len(took),
        missed=missed,
        refused=refused,
        cost_by_backend=cost,
        answered_by_backend=answered,
        mean_s=sum(took) / len(took) if took else 0.0,
        p95_s=took[min(len(took) - 1, int(len(took) * 0.95))] if took else 0.0,
    )
