"""How long to wait before the next attempt: exponential, with jitter, so that what failed together does not return
together."""

from __future__ import annotations

from typing import Final

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 600.0


def backoff_s(attempts: int, jitter: float) -> float:
    """Return the pause after `attempts` attempts: between half of the full pause and all of it.

    Args:
        attempts: Attempts so far, at least 1.
        jitter: A random number in [0, 1).
    """
    full_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (min(attempts, 32) - 1))
    return full_s * (0.5 + 0.5 * jitter)
