"""What a release gave while it answered, kept for the one that takes its place: is that one worse, or is more asked?

More requests make every release slower. So what is live is laid beside what the one before it gave when as much was
asked, or more; how much is asked is counted in requests that arrive, which a slow release does not change. Of more than
the one before ever met, nothing is said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ashore.releases import Given, GivenLevel
from ashore.releases.given import KEPT as KEPT_IN_STATE
from ashore.serving.differences import Observation

KEPT: Final = 256
"""Answers of one level; each is laid beside one answer of the next release at most."""
KEPT_S: Final = 3600.0
"""Older answers are no neighbours."""
LEAST: Final = 20
"""So many answers of a level say what a release does there."""
RATE_S: Final = 15.0
"""Requests are counted over this time, and so much before it."""


@dataclass(slots=True)
class _Level:
    """What was given at one level of load."""

    kept: deque[Given] = field(default_factory=lambda: deque(maxlen=KEPT))
    count: int = 0
    failed: int = 0
    late: int = 0


class Arrivals:
    """How much is asked of one alias: the requests of the last 15 to 30 seconds."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._now = 0
        self._before = 0

    def add(self, now_s: float) -> int:
        """Count one more, and return the level: 1 for one request, then one more for each time that it doubles."""
        if now_s - self._began_s >= RATE_S:
            self._before = self._now if now_s - self._began_s < 2 * RATE_S else 0
            self._began_s, self._now = now_s, 0
        self._now += 1
        return (self._now + self._before).bit_length()


class Former:
    """What one release gave, by level."""

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._changed: set[int] = set()

    @classmethod
    def of(cls, levels: Iterable[GivenLevel], *, ahead_s: float) -> Former:
        """Return what the state kept; the calendar is `ahead_s` of the clock that answers are laid beside by."""
        former = cls()
        for one in levels:
            kept = [Given(given.at_s - ahead_s, given.failed, given.per_token_s) for given in one.kept]
            former._levels[one.level] = _Level(deque(kept, KEPT), one.count, one.failed, one.late)
        return former

    def changed(self, *, ahead_s: float) -> tuple[GivenLevel, ...]:
        """Return the levels of which more is known than at the last call, for the state to keep."""
        changed, self._changed = sorted(self._changed), set()
        return tuple(
            GivenLevel(
                level=level,
                count=found.count,
                failed=found.failed,
                late=found.late,
                kept=tuple(
                    Given(given.at_s + ahead_s, given.failed, given.per_token_s)
                    for given in list(found.kept)[-KEPT_IN_STATE:]
                ),
            )
            for level in changed
            if (found := self._levels[level])
        )

    def add(self, level: int, seen: Observation, *, late: bool) -> None:
        """Keep how an answer ended. `late`: its first token missed the objective."""
        found = self._levels.setdefault(level, _Level())
        found.kept.append(Given(seen.at_s, seen.failed, seen.per_token_s))
        found.count += 1
        found.failed += seen.failed
        found.late += late
        self._changed.add(level)

    def take(self, level: int, since_s: float) -> Given | None:
        """Return an answer that was given at this level, or a higher one, since a moment; each is returned once."""
        for one in sorted(at for at in self._levels if at >= level):
            kept = self._levels[one].kept
            while kept:
                given = kept.popleft()
                if given.at_s >= since_s:
                    return given
        return None

    def kept_to(self, level: int, *, failed: float = 1.0, late: float = 1.0) -> bool:
        """Return whether no more than these parts of the answers failed or were late, at this level or the nearest
        higher one that is known; False where none is."""
        known = min((at for at, one in self._levels.items() if at >= level and one.count >= LEAST), default=0)
        if not known:
            return False
        found = self._levels[known]
        return found.failed <= failed * found.count and found.late <= late * found.count
