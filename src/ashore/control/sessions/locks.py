"""Account lockout. Pure: the caller has the time and the counts.

Failures are counted for unknown names too, so that a lock reveals nothing. A browser that logged in before has its own
count and is not affected by others: an attacker can only lock out unknown browsers, for at most `LONGEST_S`.

Source of the second rule: OWASP, "Slow Down Online Guessing Attacks with Device Cookies".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ashore.control.sessions.rules import Rules

WINDOW_S: Final = 900
"""Failures that are older count no more."""
LONGEST_S: Final = 3_600
CALM_S: Final = 86_400
"""After so long without a failure the next lock is short again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """Failures of one name, or of one browser of an account."""

    failures: int = 0
    since_s: int = 0
    """When the first of them happened."""
    at_s: int = 0
    locked_until_s: int = 0
    locks: int = 0

    def left_s(self, now_s: float) -> float:
        """Return the remaining time of the lock."""
        return max(0.0, self.locked_until_s - now_s)


def after_failure(tries: Tries, rules: Rules, now_s: int) -> Tries:
    """Return the counts after one more failure."""
    if now_s - tries.at_s > CALM_S:
        tries = Tries()
    if now_s - tries.since_s > WINDOW_S:
        tries = replace(tries, failures=0, since_s=now_s)
    tries = replace(tries, failures=tries.failures + 1, at_s=now_s)
    if tries.failures < rules.tries:
        return tries
    length_s = min(max(LONGEST_S, rules.lock_s), rules.lock_s * 2 ** min(tries.locks, 12))
    return replace(tries, failures=0, since_s=now_s, locked_until_s=now_s + length_s, locks=tries.locks + 1)


def taken_back(now: Tries, before: Tries, after: Tries) -> Tries:
    """Return the counts when one attempt turns out to be no failure. A lock caused by other attempts stays.

    Args:
        now: Current counts.
        before: Counts before that attempt.
        after: Counts with that attempt.
    """
    if now == after:
        return before
    if now.locks != after.locks or now.left_s(now.at_s):
        return now
    return replace(now, failures=max(0, now.failures - 1))
