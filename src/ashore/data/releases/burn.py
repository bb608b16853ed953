"""Burn rate of a release's service-level objective, and when it is too high. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.kit.section import Section

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
        """The longest window; older counts are ignored."""
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
        """Text for the history and the audit log."""
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
    """Return the objective that burns too fast now, by the fast rule before the slow one; None if none does.

    `alone`: count only the release's own faults.
    """
    for found in burn_rates(slo, counts, now_s, alone=alone):
        if found.bad >= LEAST_BAD and min(found.long_rate, found.short_rate) >= found.most:
            return found
    return None


def burn_rates(slo: Slo, counts: Iterable[Count], now_s: int, *, alone: bool = False) -> tuple[Burning, ...]:
    """Return the burn rate of each objective, by the fast rule and then the slow one. Objectives without data in the
    long window are omitted; a short window without requests has rate 0.
    """
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
    """Return the burn rate of an objective since a moment."""
    bad, total = _within(tuple(counts), objective, since_s)
    return bad / total / slo.allowed[objective] if total else 0.0


def _within(counts: tuple[Count, ...], objective: str, since_s: int) -> tuple[int, int]:
    """Return bad and total requests, in buckets that began since a moment."""
    ours = [one for one in counts if one.objective == objective and one.at_s >= since_s]
    return sum(one.bad for one in ours), sum(one.total for one in ours)
