"""When a child that ended is started again, as a pure rule."""

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
    """Failures in a row after which it is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Start it again after `wait_s`."""

    wait_s: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Leave it; `why` goes to the operator."""

    why: str


def decide(policy: RestartPolicy, *, exit_code: int, ran_s: float, failures: int, chance: float) -> Restart | GiveUp:
    """Say what follows when a child ended that nobody stopped.

    Args:
        policy: Limits.
        exit_code: As `Popen.returncode`: negative for a signal.
        ran_s: How long it ran.
        failures: Failures in a row before this one.
        chance: A number from 0 to 1, drawn by the caller.
    """
    failures = 1 if ran_s >= policy.healthy_after_s else failures + 1
    if exit_code == USER_FAULT:
        return GiveUp(why="it does not accept its arguments or settings")
    if failures > policy.most_failures:
        return GiveUp(why=f"it ended {failures} times in a row")
    wait_s = min(policy.longest_wait_s, policy.first_wait_s * 2 ** (failures - 1))
    return Restart(wait_s=wait_s * (1 + policy.jitter * chance), failures=failures)
