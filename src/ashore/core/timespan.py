"""Spans of time as people read and write them. Inside ashore a span is a number of seconds."""

from __future__ import annotations

from typing import Final

from ashore.errors import InvalidRequest

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def human_seconds(seconds: float) -> str:
    """Return a span in the largest unit of which it has one and a half: 5399 gives `90 min`, 5400 `1.5 h`."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"


def seconds_in(text: str) -> int:
    """Return a span that people wrote, `90s`, `15m`, `2h` or `1d`, in seconds; a number alone is seconds.

    Raises:
        InvalidRequest: it is not one.
    """
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "s")
    if not (number.isascii() and number.isdecimal()):
        raise InvalidRequest(f"{text!r} is not a duration", hint="write it as 90s, 15m, 2h or 1d")
    return int(number) * UNITS[unit]


def written_span(seconds: int) -> str:
    """Return a span as `seconds_in` reads it, in the largest unit that leaves no rest."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % UNITS[unit] == 0)
    return f"{seconds // UNITS[unit]}{unit}"
