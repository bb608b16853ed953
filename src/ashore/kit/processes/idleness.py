"""Idle share of this machine's processors."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

LEAST_S: Final = 0.3
"""Shorter times say little: the system counts in hundredths of a second."""


class Idleness:
    """The idle share of all processors since the previous call."""

    def __init__(self, *, stat: Path = Path("/proc/stat"), monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Create it."""
        self._stat = stat
        self._monotonic_s = monotonic_s
        self._read_s = float("-inf")
        self._idle = self._total = 0
        self._part = 0.0

    def part(self) -> float:
        """Return it, from 0 to 1, over at least the last third of a second; 0 if unavailable. The first call covers the
        time since boot.
        """
        now_s = self._monotonic_s()
        if now_s - self._read_s >= LEAST_S:
            self._read_s = now_s
            idle, total = self._counts()
            if total > self._total:
                self._part = (idle - self._idle) / (total - self._total)
            self._idle, self._total = idle, total
        return self._part

    def _counts(self) -> tuple[int, int]:
        try:
            with self._stat.open() as file:
                words = file.readline().split()
            counts = [int(word) for word in words[1:9]]  # user nice system idle iowait irq softirq steal
            return counts[3] + counts[4], sum(counts)
        except (OSError, ValueError, IndexError):
            return 0, 0
