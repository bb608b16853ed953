"""`[drills]`: where and when failures may be rehearsed."""

from __future__ import annotations

import re
from typing import Final, Literal, Self

from ashore.core.errors import InvalidSpec
from ashore.kit.section import Section

_WINDOW: Final = re.compile(
    r"^((?:mon|tue|wed|thu|fri|sat|sun)(?:,(?:mon|tue|wed|thu|fri|sat|sun))*) (\d\d):(\d\d)-(\d\d):(\d\d)$"
)
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class DrillsSection(Section, frozen=True, kw_only=True):
    """Rehearsed failures (`ashore drill`)."""

    production: Literal["auto", "yes", "no"] = "auto"
    """Whether users depend on this server. A drill on it then needs the consent of a security officer. auto: once three
    administrators have taken over."""
    window: str = ""
    """When drills may run on this server, in UTC: `tue,thu 10:00-12:00`. Empty: at any time."""

    def checked(self, where: str) -> Self:
        if self.window and not _WINDOW.match(self.window):
            raise InvalidSpec(f"{where} window = {self.window!r}; expected days and times", hint="tue,thu 10:00-12:00")
        return self


def is_open(window: str, day: int, minute: int) -> bool:
    """Return whether drills may run.

    Args:
        window: Of the section.
        day: 0 is Monday.
        minute: Of the day, UTC.
    """
    found = _WINDOW.match(window)
    if found is None:
        return True
    start, end = int(found[2]) * 60 + int(found[3]), int(found[4]) * 60 + int(found[5])
    return DAYS[day] in found[1].split(",") and start <= minute < end
