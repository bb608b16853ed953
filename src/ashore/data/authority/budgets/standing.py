"""Quotas in the words of refusals and of OpenAI's `x-ratelimit-*` headers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from ashore.core.errors import BudgetExceeded
from ashore.data.authority.budgets.model import BudgetRule, Quota, Standing
from ashore.data.authority.budgets.ports import Line, Part
from ashore.data.authority.budgets.rulebook import resets_later
from ashore.data.authority.budgets.windows import duration

RATE_NAMES: Final = (
    ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
)
"""In the order of `Standing`."""


def standing_of(lines: Sequence[Line], used: Callable[[Line], int], now_ms: int) -> Standing:
    """Return the tightest counts of requests and of tokens: least left; among equals, the one that resets last."""
    best: list[Line | None] = [None, None]
    least = [0, 0]
    for line in lines:
        part = line.part
        if part == Part.CONCURRENCY:
            continue
        left, before = line.cap - used(line), best[part]
        if before is None or left < least[part] or (left == least[part] and resets_later(line, before)):
            best[part], least[part] = line, left
    return Standing(
        _quota(best[Part.REQUESTS], least[Part.REQUESTS], now_ms), _quota(best[Part.TOKENS], least[Part.TOKENS], now_ms)
    )


def _quota(line: Line | None, left: int, now_ms: int) -> Quota | None:
    if line is None:
        return None
    reset_s = max(0, line.ends_ms - now_ms) / 1000 if line.ends_ms else None
    return Quota(line.rule_id, line.cap, max(0, left), reset_s)


def rate_headers(standing: Standing) -> tuple[tuple[str, str], ...]:
    """Return OpenAI's headers; a window without an end has no reset."""
    headers: list[tuple[str, str]] = []
    for (limit, remaining, reset), quota in zip(RATE_NAMES, standing, strict=True):
        if quota is not None:
            headers.append((limit, str(quota.limit)))
            headers.append((remaining, str(quota.left)))
            if quota.reset_s is not None:
                headers.append((reset, duration(quota.reset_s)))
    return tuple(headers)


def refusal(rule: BudgetRule, line: Line, left: int, wanted: int, standing: Standing, now_ms: int) -> BudgetExceeded:
    """Return the error of a request that exceeds one of its budgets."""
    left = max(0, left)
    what = {"tokens": "tokens", "requests": "requests", "concurrency": "requests at once"}[rule.kind]
    per = "" if rule.window == "now" else " in total" if rule.window == "total" else f" per {rule.window}"
    never = wanted > line.cap
    facts = [
        ("x-ashore-budget", rule.rule_id),
        ("x-ashore-budget-window", rule.window),
        ("x-ashore-budget-limit", str(line.cap)),
        ("x-ashore-budget-remaining", str(left)),
    ]
    if rule.kind == "concurrency":
        retry_after_s, when = 1.0, "the next one may start when one ends"
    elif not line.ends_ms:
        retry_after_s, when = None, "it never resets"
    else:
        retry_after_s = max(0, line.ends_ms - now_ms) / 1000
        resets_at = datetime.fromtimestamp(line.ends_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        when = f"it resets at {resets_at}"
        facts.append(("x-ashore-budget-reset", resets_at))
    if never:
        less = "send a shorter prompt, or " if rule.kind == "tokens" else ""
        hint = f"the request is larger than the budget: {less}ask an administrator to raise it"
    elif rule.kind == "tokens":
        hint = "wait for the reset, send a shorter prompt, or ask an administrator to raise the budget"
    else:
        hint = "wait, or ask an administrator to raise the budget"
    return BudgetExceeded(
        f"budget {rule.rule_id} ({rule.about()}) allows {line.cap:,} {what}{per}; {left:,} are left and this request "
        f"needs {wanted:,}; {when}",
        hint=hint,
        retry_after_s=None if never else retry_after_s,
        facts=(*facts, *rate_headers(standing)),
    )
