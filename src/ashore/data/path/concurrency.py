"""Limits how many sequences one API worker drives at once, by the load of its own event loop, not by what an engine
reports.

An engine may report that it runs 4,096 sequences. A worker that cannot keep up with so many would admit all of them,
answer each of them late, and be late with every refusal too. So the loop is measured: while it has no idle time *and*
turns slowly, the limit goes down by a share; while it turns quickly, the limit goes up (additive increase,
multiplicative decrease). Long turns with idle time in between are typical of a wide batch, and limit nothing. One slow
turn is not yet overload: it may be one long prompt.
"""

from __future__ import annotations

import math
import selectors
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from ashore.data.path.fairness import Shares

LOOK_S: Final = 0.05
"""Least time between two looks at the loop."""
FORGET_S: Final = 1.0
"""An older reading is outdated: no request came meanwhile."""
BUSY: Final = 0.9
"""Share of the time without rest from which a loop is taken to be short of processor time."""
RESTED: Final = 0.7
LAG_S: Final = 0.0025
"""Length of a turn that a loop without rest is held to. A refusal takes about three turns, and has 10 ms."""
DROWNING_LAG_S: Final = 0.010
"""Turns so long that requests are refused before their body is read."""
FLOOR: Final = 32
"""Sequences that are let in whatever the loop does. It may be busy with something else, cached answers for instance;
and where a request takes half a millisecond, the ends of one turn (`hostlink.ENDED_AT_ONCE`) are a turn too long
already, so that a few clients who are all answered in time bring the limit as low as it goes. With more, refusals come
later."""
CEILING: Final = 1 << 20
"""More than any engine runs: no limit."""
SHARPEST: Final = 0.5
GENTLEST: Final = 0.9
"""Shares that a decrease leaves: the further the turns are from what they should be, the less."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """Measurements of an event loop between two readings."""

    busy: float
    """Share of the time in which it did not wait for anything."""
    lag_s: float
    """Mean length of the turn that an event falls into: its wait for the loop."""

    @property
    def overloaded(self) -> bool:
        return self.busy >= BUSY and self.lag_s > LAG_S

    @property
    def pressed(self) -> bool:
        return self.busy >= RESTED

    @property
    def drowning(self) -> bool:
        return self.busy >= BUSY and self.lag_s > DROWNING_LAG_S


CALM: Final = Pulse(0.0, 0.0)


def next_limit(limit: float, before: Pulse, now: Pulse, *, running: int, looks: float = 1.0) -> float:
    """Return the next limit.

    Args:
        limit: The current limit, up to `CEILING`.
        before: The previous reading.
        now: This reading.
        running: Sequences that the worker drives.
        looks: Time between the two, in units of `LOOK_S`.
    """
    if now.overloaded:
        if not before.overloaded:
            return limit
        share = max(SHARPEST, min(GENTLEST, LAG_S / now.lag_s))
        return max(FLOOR, min(limit, running) * share)
    if now.busy < RESTED:
        return min(CEILING, limit * math.pow(1.1, min(looks, 100.0)) + 1)
    if now.lag_s < LAG_S / 2 and running >= 0.8 * limit:
        return min(CEILING, limit + 1)
    return limit


class Meter(Protocol):
    """Measures an event loop."""

    def take(self) -> Pulse:
        """Return the measurements since the last call."""
        ...


class LoopMeter(selectors.DefaultSelector):
    """Selector of an event loop that measures how long the loop waits in it and how long it stays away."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Create it for `asyncio.SelectorEventLoop`. `clock` returns seconds."""
        super().__init__()
        self._clock = clock
        self._began_at = self._woke_at = clock()
        self._idle_s = self._turns_s = self._squares = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        slept_at = self._clock()
        self._count(slept_at - self._woke_at)
        ready = super().select(timeout)
        self._woke_at = self._clock()
        if timeout is None or timeout > 0:
            self._idle_s += self._woke_at - slept_at
        return ready

    def take(self) -> Pulse:
        """Return the measurements since the last call. Called inside a turn, which is counted up to now."""
        now = self._clock()
        self._count(now - self._woke_at)
        wall_s = now - self._began_at
        pulse = (
            Pulse(1.0 - min(1.0, self._idle_s / wall_s), self._squares / self._turns_s if self._turns_s else 0.0)
            if wall_s > 0
            else CALM
        )
        self._began_at = self._woke_at = now
        self._idle_s = self._turns_s = self._squares = 0.0
        return pulse

    def _count(self, turn_s: float) -> None:
        self._turns_s += turn_s
        self._squares += turn_s * turn_s


class AlwaysCalm:
    """A meter without a loop to measure; nothing is limited."""

    def take(self) -> Pulse:
        return CALM


class ConcurrencyLimit:
    """The limit of one worker, shared by the gates of all its models. Every call is made on the event loop."""

    def __init__(self, meter: Meter | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the limit. Without a meter nothing is limited."""
        self._meter: Meter = meter or AlwaysCalm()
        self._is_metered = meter is not None
        self._clock = clock
        self._limit = float(CEILING)
        self._running = Shares()
        self._before = self._now = CALM
        self._is_pressed = self._is_drowning = False
        """Whether the last two readings both showed pressure."""
        self._looked_at = clock()
        self._waiters: list[Callable[[], None]] = []

    @property
    def limit(self) -> int:
        """Limit of sequences that the worker drives."""
        return int(self._limit)

    @property
    def pulse(self) -> Pulse:
        """The last reading."""
        return self._now

    @property
    def pressed(self) -> bool:
        """Whether the loop has been short of processor time for more than a moment."""
        return self._is_pressed and not self._is_stale()

    def drowning(self, tenant: str) -> bool:
        """Return whether the loop is so overloaded that requests of a tenant should be refused before their body is
        read.

        Cached answers do not count: they take no slot, and cost no more than a refusal. One reading is not enough: a
        pause of the machine of some tens of milliseconds is one long turn of a loop that keeps up.
        """
        return self._is_drowning and not self.has_room(1, tenant) and not self._is_stale()

    def has_room(self, sequences: int, tenant: str) -> bool:
        """Return whether so many more of a tenant may be driven: within the limit, or within the tenant's part of it,
        whatever others hold. A single request may always run alone."""
        running = self._running
        return running.total + sequences <= self._limit or running.within_part(tenant, sequences, self.limit)

    def took(self, sequences: int, tenant: str) -> None:
        """Count sequences of a tenant that were started."""
        self._running.add(tenant, sequences)

    def gave_back(self, sequences: int, tenant: str) -> None:
        """Count sequences that have ended."""
        self._running.add(tenant, -sequences)

    def look(self) -> None:
        """Read the meter, at most once per interval. Called as requests come and go: costs one clock reading."""
        if not self._is_metered:
            return
        now_s = self._clock()
        elapsed_s = now_s - self._looked_at
        if elapsed_s < LOOK_S:
            return
        self._looked_at = now_s
        self._before, self._now = self._now if elapsed_s < FORGET_S else CALM, self._meter.take()
        self._is_pressed = self._now.pressed and self._before.pressed
        self._is_drowning = self._now.drowning and self._before.drowning
        self._limit = next_limit(
            self._limit, self._before, self._now, running=self._running.total, looks=elapsed_s / LOOK_S
        )

    def join(self, call_next: Callable[[], None]) -> None:
        """Register `call_next`, called when a slot freed by one gate may be used by another."""
        self._waiters.append(call_next)

    def part(self, call_next: Callable[[], None]) -> None:
        """Undo `join`."""
        self._waiters.remove(call_next)

    def others(self, own: Callable[[], None]) -> Iterable[Callable[[], None]]:
        """Return the callbacks of the other gates."""
        return [one for one in self._waiters if one != own] if len(self._waiters) > 1 else ()

    def _is_stale(self) -> bool:
        return self._clock() - self._looked_at > FORGET_S
