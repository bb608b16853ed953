"""How a site stands: what its process writes, and commands and the doctor read."""

from __future__ import annotations

import msgspec


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`status.json`: what `ashore site status` shows."""

    site: str
    centre: str
    at_s: float
    phase: str
    sequence: int
    """Of the newest trusted want; 0: none."""
    serving: dict[str, str]
    """Digest by alias."""
    failed: dict[str, str]
    """Why, by digest."""
    news_s: float
    until_s: float
    """Until when it may serve without news; 0: for ever."""
    hold_until_s: float
    frozen: bool
    waiting: int
    """Reports that the centre does not have yet."""
    note: str
    """What keeps it from more; empty: nothing."""
    done: float = 1.0
    """Share of what it fetches."""
