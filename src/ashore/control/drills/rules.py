"""The verdict of a drill from its records: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from ashore.control.drills.load import quantile
from ashore.control.drills.model import Check, Drill, Outcome, Phase, Verdict

STEADY_SHARE: Final = 0.01
"""Of the requests before the fault, so many may fail."""
LEAST_BEFORE: Final = 5
REFUSALS: Final = frozenset((429, 502, 503, 504))
"""Statuses that say that a request was not answered, before anything of an answer went out."""
WELL: Final = 5
"""Requests in a row that must succeed before a server is called well again."""
ABORT_WINDOW_S: Final = 5.0


def phase_of(outcomes: Sequence[Outcome]) -> Phase:
    """Return requests aggregated."""
    firsts = [1e3 * one.first_s for one in outcomes if one.first_s]
    return Phase(
        requests=len(outcomes),
        failed=sum(not one.ok for one in outcomes),
        first_p50_ms=round(quantile(firsts, 0.5), 1),
        first_p95_ms=round(quantile(firsts, 0.95), 1),
        longest_s=round(max((one.took_s for one in outcomes), default=0.0), 3),
        codes=dict(Counter(one.code or str(one.status) for one in outcomes if not one.ok)),
    )


def steady(before: Sequence[Outcome]) -> str:
    """Return why the server was not steady before the fault; empty if it was."""
    failed = sum(not one.ok for one in before)
    if len(before) < LEAST_BEFORE:
        return f"{len(before)} requests were answered before the fault; at least {LEAST_BEFORE} are needed"
    if failed > STEADY_SHARE * len(before):
        return f"{failed} of {len(before)} requests failed before the fault"
    return ""


def lost_check(drill: Drill, during: Sequence[Outcome]) -> Check:
    """Return whether losses stayed within the drill's limits, and no cut stream looked complete."""
    failed = [one for one in during if not one.ok]
    refused = [one for one in failed if one.status in REFUSALS or (one.status == 0 and not one.first_s)]
    broken = [one for one in failed if one not in refused]
    silent = [one for one in failed if one.silent_cut]
    bound, held = "no request fails", not failed
    if drill.loss == "refused":
        bound, held = "requests are answered, or refused before an answer begins", not broken
    elif drill.loss == "in-flight":
        bound, held = (
            f"at most {drill.load} answers are interrupted, each with an error that says so",
            (len(broken) <= drill.load and not silent),
        )
    elif drill.loss == "begun":
        bound, held = "answers that had begun may be interrupted, each with an error", not refused and not silent
    elif drill.loss == "any":
        bound, held = "each request may fail", True
    seen = f"{len(during)} requests, {len(refused)} refused, {len(broken)} interrupted, {len(silent)} without a word"
    return Check(name="requests", held=held, seen=seen, bound=bound)


def should_abort(drill: Drill, outcomes: Sequence[Outcome], now_s: float) -> str:
    """Return why a drill must end at once; empty if it may continue.

    Args:
        drill: The drill.
        outcomes: Of the load so far.
        now_s: Since the drill began.
    """
    recent = [one for one in outcomes if one.at_s + one.took_s >= now_s - ABORT_WINDOW_S]
    failed = sum(not one.ok for one in recent)
    if drill.loss == "none" and len(recent) >= 10 and failed > 0.5 * len(recent):
        return (
            f"{failed} of {len(recent)} requests failed in the last {ABORT_WINDOW_S:.0f} s, and this drill allows none"
        )
    return ""


def is_well(outcomes: Sequence[Outcome], since_s: float) -> float | None:
    """Return when the server had recovered after a moment: at the end of several consecutive successes; None: not yet.
    Requests that began before that moment do not count.
    """
    row = 0
    for one in sorted((o for o in outcomes if o.at_s >= since_s), key=lambda o: o.at_s + o.took_s):
        row = row + 1 if one.ok else 0
        if row == WELL:
            return one.at_s + one.took_s
    return None


def verdict_of(checks: Iterable[Check]) -> tuple[Verdict, str]:
    """Return the verdict over the conditions, with its reason."""
    broken = [one for one in checks if not one.held]
    if broken:
        return "fail", "; ".join(f"{one.name}: {one.seen} (must be: {one.bound})" for one in broken)
    return "pass", "everything that must hold held"
