"""How far requests and answers of a site have moved from those of the week before: the population stability index.

Source: Siddiqi, Credit Risk Scorecards (2006): below 0.1 little has changed, above 0.25 much has. A share of zero
counts as one of 10,000, as is usual.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Final

from ashore.data.authority import budgets

WEEK: Final = timedelta(days=7)
LEAST: Final = 100
"""Requests that the model has generated in each of the two weeks; with fewer the figure would be chance."""
FLOOR: Final = 1e-4

Lengths = dict[int, float]
"""Requests by the power of two of their length."""


def drift_of(usages: Iterable[budgets.Usage], today: date) -> float | None:
    """Return the largest index over the aliases, of the lengths of prompts and of answers; None: too few requests.

    Usage knows the mean length of a user's requests in a day, so that is what a request counts with.

    Args:
        usages: Of the last 14 days before today at least.
        today: The last seven days before it are compared with the seven before those.
    """
    weeks = [(today - 2 * WEEK, today - WEEK), (today - WEEK, today)]
    spread: dict[tuple[str, str], list[Lengths]] = defaultdict(lambda: [defaultdict(float), defaultdict(float)])
    for one in usages:
        made = one.requests - one.hits  # cached answers count no tokens
        for at, (first, end) in enumerate(weeks):
            if made > 0 and first.isoformat() <= one.day < end.isoformat():
                for what, tokens in (("prompt", one.prompt_tokens), ("answer", one.completion_tokens)):
                    _add(spread[one.model, what][at], tokens / made, made)
    found = [psi(*both) for both in spread.values() if min(sum(week.values()) for week in both) >= LEAST]
    return round(max(found), 3) if found else None


def psi(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return the population stability index of two distributions, each with at least one request."""
    index, num_before, num_after = 0.0, sum(before.values()), sum(after.values())
    for cell in before.keys() | after.keys():
        was, now = max(before.get(cell, 0) / num_before, FLOOR), max(after.get(cell, 0) / num_after, FLOOR)
        index += (now - was) * math.log(now / was)
    return index


def _add(lengths: Lengths, length: float, weight: float) -> None:
    """Share a length between the two powers of two around it, so that a mean near an edge does not jump over it."""
    whole, rest = divmod(math.log2(1 + length), 1)
    lengths[int(whole)] += weight * (1 - rest)
    lengths[int(whole) + 1] += weight * rest
