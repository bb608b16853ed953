"""Windows of time of a count. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from ashore.data.authority.budgets.model import WindowName

MINUTE_MS: Final = 60_000
_LENGTH_MS: Final = {"minute": MINUTE_MS, "hour": 60 * MINUTE_MS, "day": 24 * 60 * MINUTE_MS}


def window_at(window: WindowName, now_ms: int, offset_min: int = 0) -> tuple[int, int]:
    """Return when the window around `now_ms` starts and ends, in milliseconds since 1970, UTC; (0, 0): it has no end.

    Args:
        window: The kind of window.
        now_ms: A moment in it.
        offset_min: Minutes that the local time is ahead of UTC; hours, days and months begin by the local time.
    """
    if window in ("total", "now"):
        return 0, 0
    shift_ms = offset_min * MINUTE_MS
    local_ms = now_ms + shift_ms
    if window == "month":
        at = datetime.fromtimestamp(local_ms // 1000, UTC)
        first = datetime(at.year, at.month, 1, tzinfo=UTC)
        after = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
        return int(first.timestamp()) * 1000 - shift_ms, int(after.timestamp()) * 1000 - shift_ms
    length_ms = _LENGTH_MS[window]
    start_ms = local_ms - local_ms % length_ms - shift_ms
    return start_ms, start_ms + length_ms


def day_of(now_ms: int) -> str:
    """Return the day of a moment, `2026-11-24`, of UTC."""
    return datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%d")


def duration(seconds: float) -> str:
    """Return a time in the form of OpenAI's headers: `12ms`, `7.5s`, `6m0s`, `24h0m0s`; from a minute on in whole
    seconds, rounded up, so that a client that waits so long does not return too early."""
    milliseconds = max(0, round(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    return f"{milliseconds / 1000:g}s" if milliseconds < MINUTE_MS else _whole_seconds(-(-milliseconds // 1000))


@lru_cache(maxsize=256)
def _whole_seconds(seconds: int) -> str:
    """Cached: every cached answer under a budget shows it, many times in the same second."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s"
