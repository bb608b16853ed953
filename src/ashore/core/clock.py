"""Time as a port, so that no rule reads a clock and no test sleeps."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The source of time for services."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back; only differences are meaningful."""
        ...

    def now_s(self) -> float:
        """Return seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock. A request reads it a dozen times, so it adds no call in between."""

    monotonic_s = staticmethod(time.monotonic)
    now_s = staticmethod(time.time)


class ManualClock:
    """A clock that moves when a test says so."""

    def __init__(self, *, now_s: float = 1_700_000_000.0) -> None:
        self._now_s = now_s
        self._monotonic_s = 0.0

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def now_s(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        self._now_s += seconds
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the time of day forward or back, without elapsed time."""
        self._now_s += seconds
