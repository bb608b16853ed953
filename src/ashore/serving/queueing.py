"""How long the queue of a gate will take, by Little's law: who waits, over how many are called from it in a second.

Only what was seen counts. A queue that was never seen to move, or not lately, refuses nobody.
"""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 0.5
"""Least time over which calls from the queue are counted."""
LEAST_CALLS: Final = 8
"""Calls without which a count says nothing."""
FORGET_S: Final = 10.0
"""An empty queue for so long, and the next one starts with nothing known: the requests may be others."""


def expected_wait_s(ahead: int, called_per_s: float) -> float:
    """Return the seconds until `ahead` sequences have been called; 0 where the pace is not known."""
    return ahead / called_per_s if called_per_s > 0 else 0.0


def expected_service_s(mean_s: float, tokens: int, mean_tokens: float) -> float:
    """Return how long a request of this size may run: the mean of those before it, or less where it is smaller."""
    return mean_s * min(1.0, tokens / mean_tokens) if mean_tokens > 0 else mean_s


def comes_too_late(*, ahead: int, called_per_s: float, service_s: float, left_s: float) -> bool:
    """Return whether a request that has to wait would not have its answer in time.

    Args:
        ahead: Sequences that are called before it.
        called_per_s: Pace of the queue, 0 where it is not known.
        service_s: What it takes once it runs.
        left_s: Seconds to its deadline.
    """
    return called_per_s > 0 and expected_wait_s(ahead, called_per_s) + service_s > left_s


class QueuePace:
    """Measures how many sequences a second are called from a queue while somebody waits in it."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._count = 0
        self._seconds = 0.0
        self._since: float | None = None
        self._emptied_at = float("-inf")

    def per_s(self, now_s: float) -> float:
        """Return the pace, 0 while it is not known."""
        if self._since is None and now_s - self._emptied_at > FORGET_S:
            self._forget()
        return self._per_s

    def begin(self, now_s: float) -> None:
        """Somebody waits. May be called again while somebody does."""
        if self._since is None:
            if now_s - self._emptied_at > FORGET_S:
                self._forget()
            self._since = now_s

    def called(self, sequences: int, now_s: float) -> None:
        """So many were called."""
        if self._since is None:
            return
        self._count += sequences
        seconds = self._seconds + now_s - self._since
        if seconds >= WINDOW_S and self._count >= LEAST_CALLS:
            seen = self._count / seconds
            self._per_s = (self._per_s + seen) / 2 if self._per_s else seen
            self._count, self._seconds, self._since = 0, 0.0, now_s

    def end(self, now_s: float) -> None:
        """Nobody waits any more."""
        if self._since is not None:
            self._seconds += now_s - self._since
            self._since, self._emptied_at = None, now_s

    def _forget(self) -> None:
        self._per_s, self._count, self._seconds = 0.0, 0, 0.0
