"""The usual policies, for comparison with the choice by cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ashore.data.dispatch import ByCost, CheapestInTime, Fleet, Request


class Policy(Protocol):
    """Decides which requests begin where. Called after arrivals, after completions, and every second."""

    def decide(self, waiting: Sequence[Request], fleet: Fleet, now_s: float, *, tick: bool) -> Mapping[int, int]:
        """Return the back end of each request, by number, that begins now."""
        ...


@dataclass(slots=True)
class RoundRobin:
    """Each in turn on the next back end that accepts it."""

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
    """Each on the back end with the least work per device."""

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


POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {
    "cost": ByCost,
    "cheapest-in-time": CheapestInTime,
    "least-loaded": LeastLoaded,
    "round-robin": RoundRobin,
}
"""By the name that `--policy` has."""
