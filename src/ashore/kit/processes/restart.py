"""When an ended child is restarted, as a pure rule.

A child that exits by itself cannot work, and is given up after some tries. A death by a signal (a crash, out of memory,
a person, the supervisor when it hung) does not predict the next run: such a child is always restarted, eventually at
the longest interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USER_FAULT: Final = 2
"""Exit code of a child whose input is wrong: the same start would fail the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Doubling waits with jitter, and an end to patience."""

    first_wait_s: float = 0.2
    longest_wait_s: float = 30.0
    jitter: float = 0.25
    """Part of the wait that chance adds, so that hosts which fell together do not come back together."""
    healthy_after_s: float = 60.0
    """A child that ran so long starts from the first wait again."""
    most_failures: int = 8
    """Exits in a row after which it is given up; deaths by a signal do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Restart it after `wait_s`."""

    wait_s: float
    failures: int
    exits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Give up; `why` goes to the operator."""

    why: str


def decide(
    policy: RestartPolicy, *, exit_code: int, ran_s: float, failures: int, exits: int, chance: float
) -> Restart | GiveUp:
    """Decide what follows when a child ended unexpectedly.

    Args:
        policy: Limits.
        exit_code: As `Popen.returncode`: negative for a signal.
        ran_s: How long it ran.
        failures: Failures in a row before this one, of any kind.
        exits: Exits in a row before this one; a death by a signal ends the row.
        chance: A number from 0 to 1, drawn by the caller.
    """
    healthy = ran_s >= policy.healthy_after_s
    failures = 1 if healthy else failures + 1
    exits = 0 if exit_code < 0 else 1 if healthy else exits + 1
    if exit_code == USER_FAULT:
        return GiveUp(why="it does not accept its arguments or settings")
    if exits > policy.most_failures:
        return GiveUp(why=f"it ended {exits} times in a row")
    wait_s = min(policy.longest_wait_s, policy.first_wait_s * 2 ** min(failures - 1, 16))
    return Restart(wait_s=wait_s * (1 + policy.jitter * chance), failures=failures, exits=exits)
