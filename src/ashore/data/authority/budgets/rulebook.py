"""The rules that apply to a request, and their counts: pure, with memoised results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from ashore.data.authority.budgets.model import EACH, KINDS, QUOTA_KINDS, Asker, BudgetRule, Kind, WindowName
from ashore.data.authority.budgets.ports import Line, Part, UsageLine

MINUTE_MS: Final = 60_000
_LENGTH_MS: Final = {"minute": MINUTE_MS, "hour": 60 * MINUTE_MS, "day": 24 * 60 * MINUTE_MS}
MOST_REMEMBERED: Final = 8_192
"""Pairs of asker and model whose rules are remembered."""

PARTS: Final[dict[Kind, Part]] = {"tokens": Part.TOKENS, "requests": Part.REQUESTS, "concurrency": Part.CONCURRENCY}
assert set(PARTS) | set(QUOTA_KINDS) == set(KINDS), "a kind of budget has no counter"


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


@dataclass(slots=True, kw_only=True)
class Sheet:
    """The counts of a caller's requests to one model, valid until the first of their windows ends."""

    lines: tuple[Line, ...]
    hit_lines: tuple[Line, ...]
    """Those that an answer from the cache goes to."""
    join_lines: tuple[Line, ...]
    """Lines of an answer from another request's generation."""
    usage: UsageLine
    until_ms: int


class RuleBook:
    """The rules of one moment. Immutable; other rules are another book."""

    def __init__(self, rules: Iterable[BudgetRule] = (), *, hits_cost_tokens: bool = False) -> None:
        """Create it. With `hits_cost_tokens`, cached answers are charged like fresh ones."""
        self.rules: Final = tuple(rules)
        self._hits_cost_tokens = hits_cost_tokens
        self._sheets: dict[Asker, Sheet] = {}

    def sheet(self, asker: Asker, now_ms: int) -> Sheet:
        """Return the counts of a request that arrives now."""
        sheet = self._sheets.get(asker)
        if sheet is None or now_ms >= sheet.until_ms:
            if sheet is None and len(self._sheets) >= MOST_REMEMBERED:
                self._sheets.clear()
            sheet = self._sheets[asker] = self._make(asker, now_ms)
        return sheet

    def rule(self, rule_id: str) -> BudgetRule | None:
        """Return a rule by its name."""
        return next((rule for rule in self.rules if rule.rule_id == rule_id), None)

    def most(self, kind: Kind, tenant: str) -> int | None:
        """Return the lowest cap of a kind that is counted for each tenant; None if there is none."""
        return min(
            (rule.cap for rule in self.rules if rule.kind == kind and rule.tenant in (EACH, tenant)), default=None
        )

    def _make(self, asker: Asker, now_ms: int) -> Sheet:
        lines = tuple(self._lines(asker, now_ms))
        _, day_ends_ms = window_at("day", now_ms)
        hit_parts = (Part.REQUESTS, Part.TOKENS) if self._hits_cost_tokens else (Part.REQUESTS,)
        return Sheet(
            lines=lines,
            hit_lines=tuple(line for line in lines if line.part in hit_parts),
            join_lines=tuple(line for line in lines if line.part in (*hit_parts, Part.CONCURRENCY)),
            usage=UsageLine(
                day=day_of(now_ms), tenant=asker.tenant, user=asker.user, model=asker.model, ends_ms=day_ends_ms
            ),
            until_ms=min([day_ends_ms, *(line.ends_ms for line in lines if line.ends_ms)]),
        )

    def _lines(self, asker: Asker, now_ms: int) -> Iterable[Line]:
        for rule in self.rules:
            subject = rule.subject(asker) if rule.kind in PARTS else None
            if subject is not None:
                starts_ms, ends_ms = window_at(rule.window, now_ms, rule.offset_min)
                yield Line(
                    rule_id=rule.rule_id, subject=subject, part=PARTS[rule.kind], cap=rule.cap,
                    starts_ms=starts_ms, ends_ms=ends_ms,
                )  # fmt: skip


def resets_later(one: Line, other: Line) -> bool:
    """Return whether one window ends after another; one without an end is last, concurrency may free up at any
    moment."""
    return _reset_rank(one) > _reset_rank(other)


def _reset_rank(line: Line) -> tuple[int, int]:
    if line.part is Part.CONCURRENCY:
        return 0, 0
    return (2, 0) if line.ends_ms == 0 else (1, line.ends_ms)
