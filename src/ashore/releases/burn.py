"""How fast a release uses up what its service-level objective allows, and when that is too fast. Pure.

An objective allows a part of the requests to be bad. A burn rate of 1 uses up just that part; the usual rule pages when
the rate is high over a long window, so that it matters, and over a short one, so that it goes on still: 14.4 over an
hour and five minutes, 6 over six hours and half an hour. A canary that is younger than a window is judged by what there
is of it.

Source: Beyer et al., The Site Reliability Workbook (2018), chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from msgspec import Meta

from ashore.core import Section
from ashore.errors import InvalidSpec

Percent = Annotated[float, Meta(ge=0, le=100)]

Objective = Literal["errors", "ttft"]
ALONE: Final = " alone"
"""Added to an objective: only what its release alone is to blame for, see `serving.former`."""

WINDOW_S: Final = 3600
FAST_BURN: Final = 14.4
"""Two percent of what 30 days allow, in an hour."""
SLOW_BURN: Final = 6.0
"""Five percent of it, in six hours."""
MOST_FREQUENT_S: Final = 24
"""Shortest long window: its short one is two seconds."""
SHORT: Final = 12
"""A short window is the twelfth part of the long one."""
SLOW_WINDOWS: Final = 6
"""The long window of the slow rule is six times that of the fast one."""
BUCKETS: Final = 120
"""Counts are kept by the 120th part of the fast rule's long window."""
LEAST_BAD: Final = 5
"""With fewer bad requests in the long window, no rate means anything."""


class Slo(Section, frozen=True, kw_only=True):
    """What is promised. An objective of 0 is none."""

    errors_percent: Percent = 0.0
    """Share of requests that may fail; 0: no such objective."""
    ttft_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    """Time to the first token that `ttft_percent` of the answers keep to; 0: no such objective."""
    ttft_percent: Percent = 95.0
    """Share of answers that keep to `ttft_ms`."""
    window_s: Annotated[int, Meta(ge=MOST_FREQUENT_S, le=7 * 86_400)] = WINDOW_S
    """Long window of the fast rule; the others follow from it."""

    def checked(self, where: str) -> Self:
        for objective, allowed in self.allowed.items():
            if not 0 < allowed * FAST_BURN <= 1:
                raise InvalidSpec(
                    f"{where} allows {allowed * 100:g} % of the requests to miss {objective}; {FAST_BURN:g} times as "
                    "much, at which a canary is rolled back, is no part of them",
                    hint=f"allow more than 0 and at most {100 / FAST_BURN:.1f} %",
                )
        return self

    @property
    def allowed(self) -> Mapping[Objective, float]:
        """Part of the requests that may be bad, by objective."""
        parts: dict[Objective, float] = {}
        if self.errors_percent:
            parts["errors"] = self.errors_percent / 100
        if self.ttft_ms:
            parts["ttft"] = (100 - self.ttft_percent) / 100
        return parts

    @property
    def bucket_s(self) -> int:
        """Width of one count."""
        return max(1, self.window_s // BUCKETS)

    @property
    def longest_s(self) -> int:
        """Nothing older is looked at."""
        return self.window_s * SLOW_WINDOWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Requests of one objective in one bucket of time."""

    objective: str
    at_s: int
    """When the bucket began."""
    total: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burning:
    """How fast an objective is used up."""

    objective: Objective
    allowed: float
    """Part of the requests that may be bad."""
    most: float
    """A rate from which on, in both windows, it is too fast."""
    long_s: int
    short_s: int
    long_rate: float
    short_rate: float
    bad: int
    total: int

    @property
    def evidence(self) -> dict[str, str | int | float]:
        """What the history and the record keep of it."""
        return {
            "objective": self.objective,
            "allowed_percent": round(self.allowed * 100, 4),
            "long_window_s": self.long_s,
            "short_window_s": self.short_s,
            "burn_rate_long": round(self.long_rate, 2),
            "burn_rate_short": round(self.short_rate, 2),
            "bad": self.bad,
            "requests": self.total,
        }


def burning(slo: Slo, counts: Iterable[Count], now_s: int, *, alone: bool = False) -> Burning | None:
    """Return the objective that burns too fast now, by the fast rule before the slow one; None where none does.

    `alone`: of what counts as the fault of the release alone.
    """
    for found in burn_rates(slo, counts, now_s, alone=alone):
        if found.bad >= LEAST_BAD and min(found.long_rate, found.short_rate) >= found.most:
            return found
    return None


def burn_rates(slo: Slo, counts: Iterable[Count], now_s: int, *, alone: bool = False) -> tuple[Burning, ...]:
    """Return how fast each objective is used up, by the fast rule and then the slow one. An objective of which nothing
    is known in the long window is left out; a short one without requests has a rate of 0."""
    known = tuple(counts)
    rates = []
    for long_s, most in ((slo.window_s, FAST_BURN), (slo.window_s * SLOW_WINDOWS, SLOW_BURN)):
        for objective, allowed in slo.allowed.items():
            short_s = max(1, long_s // SHORT)
            name = objective + ALONE if alone else objective
            bad, total = _within(known, name, now_s - long_s)
            short_bad, short_total = _within(known, name, now_s - short_s)
            if not total:
                continue
            rates.append(
                Burning(
                    objective=objective,
                    allowed=allowed,
                    most=most,
                    long_s=long_s,
                    short_s=short_s,
                    long_rate=bad / total / allowed,
                    short_rate=short_bad / short_total / allowed if short_total else 0.0,
                    bad=bad,
                    total=total,
                )
            )
    return tuple(rates)


def rate_of(slo: Slo, counts: Iterable[Count], objective: Objective, since_s: int) -> float:
    """Return how fast an objective was used up since a moment."""
    bad, total = _within(tuple(counts), objective, since_s)
    return bad / total / slo.allowed[objective] if total else 0.0


def _within(counts: tuple[Count, ...], objective: str, since_s: int) -> tuple[int, int]:
    """Return the bad requests and all of them, in buckets that began since a moment."""
    ours = [one for one in counts if one.objective == objective and one.at_s >= since_s]
    return sum(one.bad for one in ours), sum(one.total for one in ours)
