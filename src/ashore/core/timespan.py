"""Spans of time as people read them. Inside ashore a span is a `float` of seconds."""

from __future__ import annotations


def human_seconds(seconds: float) -> str:
    """Return a span in the largest unit of which it has one and a half: 5399 gives `90 min`, 5400 `1.5 h`."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"
