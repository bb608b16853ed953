"""Devices and their running requests, as modelled without querying them.

A device shares its time among its requests: a single request runs at the rate of one stream, and a full device at its
whole rate, shared evenly among requests below their cap (processor sharing with a cap for each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ashore.data.dispatch.model import Backend, Request
from ashore.data.dispatch.program import SLOTS_S


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
    others: int = 0
    """Requests of other models on the same device."""
    crowd_s: float = 0.0
    """Concurrent requests, integrated over time: the mean of a span is its increase divided by its length."""

    @property
    def room(self) -> int:
        """Number of further requests that could begin."""
        return max(0, self.backend.max_running - len(self.running) - self.others)

    @property
    def is_full(self) -> bool:
        return not self.room

    def has_rate_for(self, request: Request) -> bool:
        """Return whether one more request would leave every one its single-stream rate."""
        share = self.backend.work_s(request) / self.backend.alone_s(request)
        return sum(one.fastest for one in self.running) + share <= 1.0

    def load_s(self, now_s: float) -> float:
        """Return the remaining work, in seconds."""
        return max(0.0, sum(one.left_s for one in self.running) - sum(self.rates) * (now_s - self.at_s))

    def begin(self, request: Request, now_s: float) -> None:
        """Start one more request."""
        self._count(now_s)
        work_s = max(1e-9, self.backend.work_s(request))
        self.running.append(_Running(request, work_s, work_s / max(work_s, self.backend.alone_s(request))))
        self.rates = _shared([one.fastest for one in self.running])

    def finish(self, now_s: float) -> list[Request]:
        """Return the requests finished by now; call it when `next_s` has come."""
        self._count(now_s)
        done = [one.request for one in self.running if one.left_s <= 1e-7]
        if done:
            self.running = [one for one in self.running if one.left_s > 1e-7]
            self.rates = _shared([one.fastest for one in self.running])
        return done

    def end(self, number: int, now_s: float) -> None:
        """Remove an ended request, whenever it was expected to end. Nothing happens if it is missing."""
        self._count(now_s)
        self.running = [one for one in self.running if one.request.number != number]
        self.rates = _shared([one.fastest for one in self.running])

    def crowd(self, now_s: float) -> float:
        """Return the number of concurrent requests, integrated over the seconds until now."""
        return self.crowd_s + (len(self.running) + self.others) * (now_s - self.at_s)

    def copy(self) -> Device:
        """Return an independent copy."""
        return Device(self.backend, list(self.running), list(self.rates), self.at_s, self.others, self.crowd_s)

    def next_s(self) -> float:
        """Return when the next request is finished, without new arrivals."""
        return self.at_s + min(
            (one.left_s / rate for one, rate in zip(self.running, self.rates, strict=True)), default=1e18
        )

    def _count(self, now_s: float) -> None:
        passed_s = now_s - self.at_s
        for one, rate in zip(self.running, self.rates, strict=True):
            one.left_s = max(0.0, one.left_s - rate * passed_s)
        self.crowd_s += (len(self.running) + self.others) * passed_s
        self.at_s = now_s


def _shared(fastest: Sequence[float]) -> list[float]:
    """Return an even share of one device for each, limited by what each can use."""
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
        self.devices = self.devices or [[Device(one) for _ in range(one.count)] for one in self.backends]

    def idlest(self, backend: int) -> Device:
        """Return the device with the least work."""
        return min(self.devices[backend], key=lambda one: (one.is_full, one.load_s(self.now_s)))

    def room(self, backend: int) -> int:
        """Return the number of further requests that could begin."""
        return sum(one.room for one in self.devices[backend])

    def left_s(self, backend: int) -> list[float]:
        """Return the free device-seconds in each slot from now on, after the running work."""
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
