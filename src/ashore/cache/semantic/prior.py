"""How far a new entry is trusted: measured on pairs written for it, by kind of looseness.

`benchmarks/cache_prior.py` counts, over the pairs in `benchmarks/data/cache`, how many traps pass at each level, and
writes `data/prior.json`. The 95 % upper bound of that share is the error a cold entry is charged with.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files

import msgspec

from ashore.cache.semantic.agree import Agreement

NUM_LEVELS = 6
JUDGED = 5
"""The level of what only the judge takes for the same."""


class Level(msgspec.Struct, frozen=True):
    """What was measured at one level of looseness and all that are stricter."""

    traps: int
    passed: int
    paraphrases: int
    answered: int
    lowest_similarity: float
    """No pair below this is answered: the lowest that any right pair had, less a margin."""


class Prior(msgspec.Struct, frozen=True):
    """The levels, strictest first."""

    levels: tuple[Level, ...]

    def error_bound(self, level: int, wrong: int = 0, judged: int = 0) -> float:
        """Return the 95 % upper bound on the share of traps that pass, with what was judged since added."""
        measured = self.levels[level]
        return upper_bound(measured.passed + wrong, measured.traps + judged)


@cache
def shipped_prior() -> Prior:
    """Return the prior that ships."""
    return msgspec.json.decode((files("ashore.cache.semantic") / "data" / "prior.json").read_bytes(), type=Prior)


def level_of(agreement: Agreement) -> int:
    """Return how loose an agreement is: 0 the same words and reading, 4 barely. What does not agree may be `JUDGED`."""
    a = agreement
    if a.identical:
        return 0 if a.same_surface else 1
    doubts = a.scope + bool(a.loose_kind) + bool(a.loose_roles)
    if a.scope or doubts > 1:
        return 4
    return 3 if doubts else 2


def upper_bound(wrong: int, total: int, *, z: float = 1.645) -> float:
    """Return the one-sided 95 % upper bound on a share (Clopper-Pearson when nothing was wrong, else Wilson).

    Source: Brown, Cai, DasGupta, "Interval estimation for a binomial proportion", 2001.
    """
    if total == 0:
        return 1.0
    if wrong == 0:
        return float(1 - 0.05 ** (1 / total))
    share = wrong / total
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return float(min(1.0, (middle + spread) / (1 + z * z / total)))
