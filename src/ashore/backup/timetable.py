"""When scheduled backups and scrubs run: pure rules over the recorded results.

`backup/schedule.json` of the home holds a `Timetable`, written before and after each turn, so that neither a kill nor a
clock set back skips or repeats turns.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ashore.core import human_seconds

RETRY_S: Final = 60.0
"""After a turn that failed; doubled with each one that follows, up to the interval."""
REST_SHARE: Final = 0.1
"""Of the interval, between the end of a turn that took longer than it and the beginning of the next."""

TurnEnd = Literal["never", "running", "done", "failed"]
TurnKind = Literal["run", "scrub"]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """The last scheduled turn. Times are seconds since the Unix epoch."""

    began_s: float = 0.0
    ended_s: float = 0.0
    end: TurnEnd = "never"
    """`running` where nobody runs: it was cut off."""
    says: str = ""
    """What came of it, for an operator."""
    failures: int = 0
    """In a row."""
    good_s: float = 0.0
    """When the last one that did what it should ended."""


class ScrubSoFar(msgspec.Struct, frozen=True, kw_only=True):
    """A scrub in progress, which runs in slices."""

    after: str = ""
    """Name of the last shard that it has read; empty: none is under way."""
    num_bytes: int = 0
    found: int = 0
    wrong: int = 0
    """Found, and not repaired."""


class Timetable(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a server's scheduled backups; read for the status."""

    every_s: float
    scrub_every_s: float
    since_s: float
    """When the first of all turns was thought of."""
    run: Turn = Turn()
    scrub: Turn = Turn()
    so_far: ScrubSoFar = ScrubSoFar()
    found: int = 0
    """Harms that were found since the first turn."""
    repaired: int = 0
    away: tuple[int, ...] = ()
    """Nodes that lack something, or were not good when they were looked at last."""
    spare: int = 0
    """Nodes that could still be lost after the last backup; negative: something is lost."""

    def due_s(self, kind: TurnKind) -> float:
        """Return when the next turn starts."""
        if kind == "run":
            return next_s(self.run, self.every_s, first_s=self.since_s)
        if self.so_far.after and self.scrub.end != "failed":
            return self.since_s  # it continues as soon as no backup is due
        return next_s(self.scrub, self.scrub_every_s, first_s=self.since_s + self.scrub_every_s)

    def begun(self, kind: TurnKind, now_s: float) -> Timetable:
        """Return the timetable with a started turn."""
        turn = msgspec.structs.replace(getattr(self, kind), began_s=now_s, end="running", says="")
        return msgspec.structs.replace(self, **{kind: turn})

    def ended(self, kind: TurnKind, now_s: float, *, failed: bool, says: str) -> Timetable:
        """Return the timetable with an ended turn."""
        turn: Turn = getattr(self, kind)
        turn = msgspec.structs.replace(
            turn,
            ended_s=now_s,
            end="failed" if failed else "done",
            says=says,
            failures=turn.failures + 1 if failed else 0,
            good_s=turn.good_s if failed else now_s,
        )
        return msgspec.structs.replace(self, **{kind: turn})


def next_s(turn: Turn, every_s: float, *, first_s: float) -> float:
    """Return when the turn after this one starts.

    Args:
        turn: The last one.
        every_s: Interval between two starts.
        first_s: Start of the first one.
    """
    match turn.end:
        case "never":
            return first_s
        case "running":
            return turn.began_s + min(every_s, RETRY_S)  # this caller does not run it: it was interrupted
        case "failed":
            return turn.ended_s + min(every_s, RETRY_S * 2.0 ** min(20, turn.failures - 1))
        case "done":
            return max(turn.began_s + every_s, turn.ended_s + REST_SHARE * every_s)


def is_due(table: Timetable, kind: TurnKind, now_s: float) -> bool:
    """Return whether a turn is due. A turn in the future means that the clock was set back: then it is due."""
    turn: Turn = getattr(table, kind)
    return now_s >= table.due_s(kind) or max(turn.began_s, turn.ended_s, table.since_s) > now_s + RETRY_S


def standing(table: Timetable, now_s: float, *, is_kept: bool, is_busy: bool) -> tuple[str, ...]:
    """Return, in words, the schedule, the last results, and the next times.

    Args:
        table: The recorded results.
        now_s: Now.
        is_kept: Whether a server is running that follows the schedule.
        is_busy: Whether the backup is in use.
    """
    if not is_kept:
        head = "no server is running scheduled backups; from the last one that did:"
        return (head, *(_line(table, kind, now_s, due=False, is_busy=False) for kind in ("run", "scrub")))
    return tuple(_line(table, kind, now_s, due=True, is_busy=is_busy) for kind in ("run", "scrub"))


def _line(table: Timetable, kind: TurnKind, now_s: float, *, due: bool, is_busy: bool) -> str:
    turn: Turn = getattr(table, kind)
    every_s = table.every_s if kind == "run" else table.scrub_every_s
    what = "a backup" if kind == "run" else "a scrub"
    if kind == "scrub" and table.so_far.after and turn.end != "failed":
        return f"{what} every {human_seconds(every_s)}: under way since {_ago(turn.began_s, now_s)}"
    match turn.end:
        case "never":
            last = "none yet"
        case "running":
            last = f"under way since {_ago(turn.began_s, now_s)}" if due and is_busy else "the last one was interrupted"
        case "done":
            last = f"the last one ended {_ago(turn.ended_s, now_s)}: {turn.says}"
        case "failed":
            last = f"the last one FAILED {_ago(turn.ended_s, now_s)}: {turn.says}"
    if not due or (turn.end == "running" and is_busy):
        return f"{what} every {human_seconds(every_s)}: {last}"
    left_s = table.due_s(kind) - now_s
    following = f"the next one is due in {human_seconds(left_s)}" if left_s > 0 else "the next one is due now"
    return f"{what} every {human_seconds(every_s)}: {last}; {following}"


def _ago(then_s: float, now_s: float) -> str:
    return f"{human_seconds(max(0.0, now_s - then_s))} ago"
