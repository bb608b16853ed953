"""Shares places and waiting lines between tenants, and between the principals of one. Counts only: no clock, no loop.

Every tenant has an equal part of a limit. It may hold more while the limit is not reached, and what it holds keeps no
other tenant from its part: that one is let in beyond the limit. So a limit is exceeded only by tenants within their
part, at most by the limit itself where each has one request.

A free place goes to the waiting tenant that holds the fewest, then to the one that was called longest ago. Within a
tenant the higher priority goes first, then principals take turns, each in the order of arrival.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request takes, and of whom it is: sequences, and tokens of prompt and expected answer over all."""

    sequences: int
    tokens: int
    tenant: str = ""
    principal: str = ""


class Shares:
    """What each tenant holds of something limited."""

    __slots__ = ("_held", "total")

    def __init__(self) -> None:
        self.total = 0
        self._held: dict[str, int] = {}

    def of(self, tenant: str) -> int:
        """Return how much a tenant holds."""
        return self._held.get(tenant, 0)

    def add(self, tenant: str, amount: int) -> None:
        """Count more, or less if `amount` is negative."""
        self.total += amount
        held = self._held.get(tenant, 0) + amount
        if held:
            self._held[tenant] = held
        else:
            self._held.pop(tenant, None)

    def within_part(self, tenant: str, amount: int, limit: int) -> bool:
        """Return whether other tenants may not keep this one from `amount` more: it holds nothing yet, or no more than
        its part with it. A tenant alone has no part: the limit itself bounds it."""
        held = self._held.get(tenant, 0)
        if not held:
            return 0 < limit >= len(self._held)
        return len(self._held) > 1 and held + amount <= limit // len(self._held)


@dataclass(slots=True, eq=False, kw_only=True)
class Waiter:
    """A request in line."""

    cost: Cost
    priority: int
    arrival: int
    """Moment of arrival, `time.monotonic_ns`."""
    place: int = 0
    """Sequences of its principal, of this priority, that go first, counted on from those called."""
    gone: bool = False

    def __lt__(self, other: Waiter) -> bool:
        return (-self.priority, self.place, self.arrival) < (-other.priority, other.place, other.arrival)


W = TypeVar("W", bound=Waiter)


@dataclass(slots=True)
class _Line(Generic[W]):
    """The waiting requests of one tenant. The first of the heap has never gone."""

    turn: int
    """Moment at which the tenant was called last, or began to wait."""
    heap: list[W] = field(default_factory=list)
    waiting: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Sequences by priority and principal."""
    called: dict[int, int] = field(default_factory=dict)
    """The last place called, by priority."""


class Lines(Generic[W]):
    """Waiting requests, a line for each tenant."""

    def __init__(self) -> None:
        self.waiting = Shares()
        self._lines: dict[str, _Line[W]] = {}

    def __iter__(self) -> Iterator[W]:
        return (one for line in self._lines.values() for one in line.heap if not one.gone)

    def join(self, waiter: W) -> None:
        """Put a request in the line of its tenant."""
        cost = waiter.cost
        line = self._lines.get(cost.tenant)
        if line is None:
            line = self._lines[cost.tenant] = _Line(waiter.arrival)
        waiter.place = self._place(line, cost, waiter.priority)
        line.waiting[waiter.priority, cost.principal] += cost.sequences
        heapq.heappush(line.heap, waiter)
        self.waiting.add(cost.tenant, cost.sequences)

    def leave(self, waiter: W, *, called_at: int = 0) -> None:
        """Take a request out of its line. May be called twice. `called_at`: when it was called, 0 if it gave up."""
        if waiter.gone:
            return
        waiter.gone = True
        cost = waiter.cost
        self.waiting.add(cost.tenant, -cost.sequences)
        line = self._lines[cost.tenant]
        key = (waiter.priority, cost.principal)
        line.waiting[key] -= cost.sequences
        if not line.waiting[key]:
            del line.waiting[key]
        if called_at:
            line.turn, line.called[waiter.priority] = called_at, waiter.place
        while line.heap and line.heap[0].gone:
            heapq.heappop(line.heap)
        if not line.heap:
            del self._lines[cost.tenant]
        elif len(line.heap) > 64 and sum(one.gone for one in line.heap) * 2 > len(line.heap):
            line.heap = [one for one in line.heap if not one.gone]
            heapq.heapify(line.heap)

    def heads(self) -> list[W]:
        """Return the first request of each tenant."""
        return [line.heap[0] for line in self._lines.values()]

    def turn(self, tenant: str) -> int:
        """Return when a waiting tenant was called last, or began to wait."""
        return self._lines[tenant].turn

    def ahead(self, cost: Cost, priority: int) -> int:
        """Return how many sequences go before a request that joins now: of its own tenant those before it in line, of
        each other tenant as many, but no more than it has."""
        line = self._lines.get(cost.tenant)
        own = 0
        if line is not None:
            before = (-priority, self._place(line, cost, priority))
            own = sum(one.cost.sequences for one in line.heap if not one.gone and (-one.priority, one.place) <= before)
        turns = own + cost.sequences
        return own + sum(min(turns, self.waiting.of(one)) for one in self._lines if one != cost.tenant)

    def _place(self, line: _Line[W], cost: Cost, priority: int) -> int:
        return line.called.get(priority, 0) + line.waiting[priority, cost.principal]


class First(NamedTuple):
    """The first in line of one worker."""

    tenant: int
    """Its digest, the same in every worker."""
    held: int
    """Sequences of the tenant that run there."""
    turn: int
    """When the tenant was called there last, or began to wait."""
    order: int
    """Negative priority."""
    arrival: int


def digest_of(tenant: str) -> int:
    """Return the digest of a tenant's name for `First`."""
    return zlib.crc32(tenant.encode())


def next_of(firsts: Sequence[First]) -> First:
    """Return the one of several workers that goes next: the tenant is chosen over all of them, then its request."""
    held: Counter[int] = Counter()
    turn: Counter[int] = Counter()
    for one in firsts:
        held[one.tenant] += one.held
        turn[one.tenant] = max(turn[one.tenant], one.turn)
    tenant = min(turn, key=lambda tenant: (held[tenant], turn[tenant], tenant))
    return min((one for one in firsts if one.tenant == tenant), key=lambda one: (one.order, one.arrival))
