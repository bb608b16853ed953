"""Whether two questions that do not agree word by word still ask the same: a logistic weighing of what they differ in.

`benchmarks/cache_judge.py` learns the weights from pairs written for it (`benchmarks/data/cache/train` and `dev`), and
writes `data/judge.json`. An answer found this way is trusted less than one whose words agree: it is the loosest level.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from ashore.cache.semantic.model import Reading
from ashore.cache.semantic.near import FEATURES, differ


class Judge(msgspec.Struct, frozen=True):
    """What was learnt."""

    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    least: float
    """The score from which on two questions are taken for the same."""

    def score(self, counts: tuple[float, ...]) -> float:
        """Return the log-odds that two questions which differ so ask the same."""
        return self.bias + sum(weight * count for weight, count in zip(self.weights, counts, strict=True))

    def same(self, mine: Reading, theirs: Reading) -> bool:
        """Tell whether two questions ask the same. Symmetric."""
        counts = differ(mine, theirs)
        return counts is not None and self.score(counts) >= self.least


@cache
def shipped_judge() -> Judge:
    """Return the judge that ships.

    Raises:
        ValueError: its file was written for other features than this version counts.
    """
    judge = msgspec.json.decode((files("ashore.cache.semantic") / "data" / "judge.json").read_bytes(), type=Judge)
    if judge.features != FEATURES:
        raise ValueError("judge.json weighs other features than near.py counts; run benchmarks/cache_judge.py")
    return judge
