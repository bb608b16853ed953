"""When a turn begins. Pure: times in, times out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ashore.data.jobs.schedule.rows import Turn

AGAIN_S: Final = 60.0
"""After a turn that failed or was cut off; doubled with each one that follows, up to the interval."""
REST_SHARE: Final = 0.1
"""Of the interval, between the end of a turn that took longer than it and the beginning of the next."""
MOST_TRIES: Final = 5
"""Attempts of a turn at a time of day: a run that crashes its machine must not repeat for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """When the next turn begins, and why then or never."""

    due_ms: int | None
    """A moment in the past: now. None: not foreseen."""
    why: str = ""
    skip: str = ""
    """Why the turn is written down without a run; empty: it runs."""


def every(turn: Turn, every_s: float, *, now_ms: int, first_s: float = 0.0) -> Next:
    """Return when the turn after this one begins, at an interval. A turn in the future means that the clock was set
    back: the next one is due.

    Args:
        turn: The last one. It is not under way.
        every_s: Interval between two starts.
        now_ms: Now.
        first_s: From when it was first scheduled to the first one.
    """
    if max(turn.began_ms, turn.ended_ms, turn.seen_ms) > now_ms + AGAIN_S * 1000:
        return Next(due_ms=now_ms, why="the clock was set back")
    match turn.state:
        case "never":
            return _at(turn.seen_ms, first_s)
        case "failed":
            return _at(turn.ended_ms, min(every_s, AGAIN_S * 2.0 ** min(20, turn.failures - 1)))
        case "done":
            return _at(max(turn.began_ms + every_s * 1000, turn.ended_ms + REST_SHARE * every_s * 1000), 0.0)
        case "interrupted" | "running":
            return _at(turn.began_ms, min(every_s, AGAIN_S * 2.0 ** min(20, turn.tries - 1)))


def _at(moment_ms: float, after_s: float) -> Next:
    return Next(due_ms=int(moment_ms + after_s * 1000))
