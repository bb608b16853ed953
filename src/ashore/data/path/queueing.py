"""Estimates the time in a gate's queue by Little's law: requests ahead, over sequences called per second.

Only observations count. A queue that was never seen to move, or not lately, refuses no request.
"""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 0.5
"""Least time over which calls from the queue are counted."""
LEAST_CALLS: Final = 8
"""Minimum number of calls for a valid pace."""
FORGET_S: Final = 10.0
"""An empty queue for so long, and the next one starts with nothing known: the requests may be others."""


def expected_wait_s(ahead: int, called_per_s: float) -> float:
    """Return the seconds until `ahead` sequences have been called; 0 if the pace is not known."""
    return ahead / called_per_s if called_per_s > 0 else 0.0


def expected_service_s(mean_s: float, tokens: int, mean_tokens: float) -> float:
    """Return the expected run time of a request of this size: the mean of earlier ones, or less if it is smaller."""
    return mean_s * min(1.0, tokens / mean_tokens) if mean_tokens > 0 else mean_s


def comes_too_late(*, ahead: int, called_per_s: float, service_s: float, left_s: float) -> bool:
    """Return whether a request that has to wait would miss its deadline.

    Args:
        ahead: Sequences that are called before it.
        called_per_s: Pace of the queue, 0 if not known.
        service_s: Expected run time.
        left_s: Seconds to its deadline.
    """
    return called_per_s > 0 and expected_wait_s(ahead, called_per_s) + service_s > left_s


class QueuePace:
    """Measures how many sequences per second are called from a queue while requests wait in it."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._count = 0
        self._seconds = 0.0
        self._since: float | None = None
        self._emptied_at = float("-inf")

    def per_s(self, now_s: float) -> float:
        """Return the pace, 0 if it is not known."""
        if self._since is None and now_s - self._emptied_at > FORGET_S:
            self._forget()
        return self._per_s

    def begin(self, now_s: float) -> None:
        """Start measuring: a request waits. May be called again meanwhile."""
        if self._since is None:
            if now_s - self._emptied_at > FORGET_S:
                self._forget()
            self._since = now_s

    def called(self, sequences: int, now_s: float) -> None:
        """Count called sequences."""
        if self._since is None:
            return
        self._count += sequences
        seconds = self._seconds + now_s - self._since
        if seconds >= WINDOW_S and self._count >= LEAST_CALLS:
            seen = self._count / seconds
            self._per_s = (self._per_s + seen) / 2 if self._per_s else seen
            self._count, self._seconds, self._since = 0, 0.0, now_s

    def end(self, now_s: float) -> None:
        """Stop measuring: no request waits."""
        if self._since is not None:
            self._seconds += now_s - self._since
            self._since, self._emptied_at = None, now_s

    def _forget(self) -> None:
        self._per_s, self._count, self._seconds = 0.0, 0, 0.0
