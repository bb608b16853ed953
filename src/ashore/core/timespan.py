"""Parses and formats durations, and formats moments. Inside ashore both are numbers of seconds."""

from __future__ import annotations

import re
import time
from typing import Final

from ashore.core.errors import InvalidRequest

UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN: Final = re.compile(r"(?P<number>[0-9]{1,12}(\.[0-9]{1,6})?)(?P<unit>[smhd])")


def parse_seconds(text: str) -> float:
    """Return the seconds in `90s`, `15m`, `2h`, `1.5h` or `30d`.

    Raises:
        InvalidRequest: it is not a duration.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest(f"{text[:40]!r} is not a duration", hint="write 90s, 15m, 2h or 30d")
    return float(found["number"]) * UNITS[found["unit"]]


def written_moment(at_s: float) -> str:
    """Format a time since the epoch in UTC, as RFC 3339 has it: `2026-12-01T14:24:57Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def human_moment(at_s: float) -> str:
    """Format a time since the epoch in UTC for people: `2026-12-03 14:05:06 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s))


def human_seconds(seconds: float) -> str:
    """Format a duration in the largest unit of which it has at least one and a half: 5399 gives `90 min`, 5400 `1.5
    h`."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"


def seconds_in(text: str) -> int:
    """Parse a duration, `90s`, `15m`, `2h` or `1d`, to seconds. Only 0 needs no unit.

    Raises:
        InvalidRequest: it is not a duration.
    """
    return 0 if text.strip() == "0" else int(parse_seconds(text))


def written_span(seconds: int) -> str:
    """Format a duration for `seconds_in`, in the largest unit without remainder."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % UNITS[unit] == 0)
    return f"{seconds // UNITS[unit]}{unit}"
