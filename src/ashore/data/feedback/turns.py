"""When a scheduled run starts: at a time of day, or after enough votes. Pure: times in, times out.

A server that was off for a week makes up for one night and not seven.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from ashore.core.errors import InvalidSpec

LIBRARIES: Final = ("torch", "transformers", "peft")
"""What a run needs, of the extra `train`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """The schedule of `[learning]`. False if runs never start by themselves."""

    at: str = ""
    """HH:MM."""
    zone: str = "UTC"
    at_examples: int = 0

    def __bool__(self) -> bool:
        return bool(self.at or self.at_examples)

    @property
    def words(self) -> str:
        """Text for operators: `at 02:00 Europe/Berlin, or at 1000 new votes with texts`."""
        said = [f"at {self.at} {self.zone}"] if self.at else []
        said += [f"at {self.at_examples} new votes with texts"] if self.at_examples else []
        return ", or ".join(said) or "by hand"


def moments(when: When, now_ms: int) -> tuple[int, int]:
    """Return the last moment that was `at` in its zone (now included), and the next one. There is one for each date:
    the first if clocks are set back, and the equivalent of a skipped time if they are set forward.
    """
    zone = ZoneInfo(when.zone)
    hour, minute = map(int, when.at.split(":"))
    today = datetime.datetime.fromtimestamp(now_ms / 1000, zone).date()
    found = [
        int(datetime.datetime.combine(today + datetime.timedelta(days), datetime.time(hour, minute), zone).timestamp())
        for days in (-1, 0, 1, 2)
    ]
    return max(one for one in found if one * 1000 <= now_ms) * 1000, min(
        one for one in found if one * 1000 > now_ms
    ) * 1000


def written(moment_ms: int, zone: str) -> str:
    """Return a moment as local time, with the zone."""
    moment = datetime.datetime.fromtimestamp(moment_ms / 1000, ZoneInfo(zone))
    return f"{moment:%Y-%m-%d %H:%M} {zone}"


def zone_named(name: str, where: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        InvalidSpec: unknown on this machine.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as fault:  # KeyError: ZoneInfoNotFoundError
        raise InvalidSpec(
            f"{where} zone = {name[:60]!r} is not a time zone of this machine",
            hint="write an IANA name such as UTC, Europe/Berlin or Asia/Shanghai; the package tzdata has them all",
        ) from fault
