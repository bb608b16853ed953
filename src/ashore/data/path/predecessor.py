"""Baseline of the previous release, to tell a regression from higher load.

More requests make every release slower. So the live release is compared with the previous one at the same load or
higher. Load is counted in arriving requests, which a slow release does not change. No comparison is made above the
highest load that the previous release met.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ashore.data.path.differences import Observation
from ashore.data.releases import Given, GivenLevel
from ashore.data.releases.model import KEPT as KEPT_IN_STATE

KEPT: Final = 256
"""Answers kept per level; each is compared with at most one answer of the next release."""
KEPT_S: Final = 3600.0
"""Older answers are no neighbours."""
LEAST: Final = 20
"""Minimum number of answers for a level to count."""
RATE_S: Final = 15.0
"""Requests are counted over this time, and so much before it."""


@dataclass(slots=True)
class _Level:
    """Outcomes at one level of load."""

    kept: deque[Given] = field(default_factory=lambda: deque(maxlen=KEPT))
    count: int = 0
    failed: int = 0
    late: int = 0


class Arrivals:
    """Arrival rate of one alias: the requests of the last 15 to 30 seconds."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._now = 0
        self._before = 0

    def add(self, now_s: float) -> int:
        """Count a request, and return the level: 1 for one request, plus one for each doubling."""
        if now_s - self._began_s >= RATE_S:
            self._before = self._now if now_s - self._began_s < 2 * RATE_S else 0
            self._began_s, self._now = now_s, 0
        self._now += 1
        return (self._now + self._before).bit_length()


class Former:
    """Baseline of one release, by level of load."""

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._changed: set[int] = set()

    @classmethod
    def of(cls, levels: Iterable[GivenLevel], *, ahead_s: float) -> Former:
        """Load from the state; `ahead_s` is the offset from the monotonic clock of answers to the calendar."""
        former = cls()
        for one in levels:
            kept = [Given(given.at_s - ahead_s, given.failed, given.per_token_s) for given in one.kept]
            former._levels[one.level] = _Level(deque(kept, KEPT), one.count, one.failed, one.late)
        return former

    def changed(self, *, ahead_s: float) -> tuple[GivenLevel, ...]:
        """Return the levels that changed since the last call, to be saved in the state."""
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
        """Add the outcome of an answer. `late`: its first token missed the objective."""
        found = self._levels.setdefault(level, _Level())
        found.kept.append(Given(seen.at_s, seen.failed, seen.per_token_s))
        found.count += 1
        found.failed += seen.failed
        found.late += late
        self._changed.add(level)

    def take(self, level: int, since_s: float) -> Given | None:
        """Return an outcome since a moment at this level or a higher one; each is returned once."""
        for one in sorted(at for at in self._levels if at >= level):
            kept = self._levels[one].kept
            while kept:
                given = kept.popleft()
                if given.at_s >= since_s:
                    return given
        return None

    def kept_to(self, level: int, *, failed: float = 1.0, late: float = 1.0) -> bool:
        """Return whether the shares of failed and late answers stayed within these limits, at this level or the
        nearest higher known one; False if none is known."""
        known = min((at for at, one in self._levels.items() if at >= level and one.count >= LEAST), default=0)
        if not known:
            return False
        found = self._levels[known]
        return found.failed <= failed * found.count and found.late <= late * found.count
