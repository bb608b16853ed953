"""A limit of bytes a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Throttle:
    """Shares a number of bytes a second among threads. What was not used up may be made up for within a second."""

    def __init__(
        self, rate: float, *, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Create it. `rate` 0: no limit."""
        self._rate, self._now, self._sleep = rate, now, sleep
        self._lock = threading.Lock()
        self._free_s = now()
        self.taken = 0

    def take(self, num_bytes: int) -> None:
        """Count bytes that have arrived or are to be read, and wait until they fit into the rate."""
        with self._lock:
            self.taken += num_bytes
            if not self._rate:
                return
            self._free_s = max(self._free_s, self._now() - 1.0) + num_bytes / self._rate
            wait_s = self._free_s - self._now()
        if wait_s > 0:
            self._sleep(wait_s)
