"""Findings in words: the verdict, the progress, and the evidence against the candidate."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ashore.data.releases import CHECK, MUCH_SLOWER, PREFERENCE, SLOWER, Finding, measure_of


def verdict_words(found: Finding) -> str:
    """Return a finding in one sentence: `undecided after 10 of about 137 requests; nothing speaks against it`."""
    match found.verdict:
        case "no worse":
            return f"no worse after {_requests(found.count)}"
        case "worse":
            return f"worse after {_requests(found.count)}; {_against(found)}"
        case "go on":
            about = f"{found.count} of about {_requests(found.needed)}" if found.needed else _requests(found.count)
            return f"undecided after {about}; {_against(found) or 'nothing speaks against it'}"


def needs_override(name: str, found: Iterable[tuple[str, Finding]], *, answered: bool) -> str:
    """Return why promoting a release needs an override; empty if it needs none.

    Args:
        name: Of the release.
        found: Findings by stage.
        answered: Whether it has been live before.
    """
    compared = [(stage, one) for stage, one in found if one.count]
    for stage, one in reversed(compared):
        if one.verdict == "worse":
            return f"{name} was found worse as {stage}: {verdict_words(one)}"
    if not compared and not answered:
        return f"{name} was never compared with the live release"
    return ""


def _against(found: Finding) -> str:
    """Return the strongest evidence against the candidate with its limit; empty if it counts as equal there."""
    measure = measure_of(found.measure)
    if measure is None or (found.mean <= measure.tolerated and found.verdict == "go on"):
        return ""
    where = f" in {found.slice}" if found.slice else ""
    mean, limit = found.mean, measure.limit
    if found.measure.startswith(PREFERENCE):
        return f"{found.measure}{where}: {mean:.2f} against it, 0.5 is even (limit {limit:g})"
    if found.measure.startswith(CHECK):
        return f"{found.measure}{where}: {mean:.1%} more of its answers do not pass (limit {limit:.0%})"
    match found.measure:
        case "errors":
            return f"errors{where}: {mean:.1%} more of its requests fail (limit {limit:.0%})"
        case "defects":
            return f"defects{where}: {mean:.1%} more of its answers are defective (limit {limit:.0%})"
        case "slower":
            return f"slower{where}: {_times(mean):.2f} times as long for a token (limit {_times(limit):.2f})"
        case _:
            return f"{found.measure}{where} {mean:.2f} nats a token worse (limit {limit:g})"


def _times(mean: float) -> float:
    """Return the factor of time per token at a mean of `slower`."""
    return SLOWER * math.exp((mean - 0.5) * 2 * MUCH_SLOWER)


def _requests(count: int) -> str:
    return f"{count:,} request{'' if count == 1 else 's'}"
