"""Learn the weights of the judge of the semantic cache, and write them where they ship.

Run: python benchmarks/cache_judge.py

The pairs are those of `data/cache/train` (each question of a block with each other one), those of `data/cache/dev`,
those of the first three sets, and the traps that `cache_pairs.py` makes of them by rule. What is printed, and what
`cache_prior.py` charges the level with, is measured on the pairs written by hand alone, by tenfold cross-validation: no
block of questions is judged by weights that saw it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

import ashore.cache.semantic
from ashore.cache.semantic.agree import agree
from ashore.cache.semantic.judge import Judge
from ashore.cache.semantic.near import FEATURES, differ
from ashore.cache.semantic.prior import upper_bound
from ashore.cache.semantic.reading import read
from cache_pairs import DEV, SEEN, Pair, development, independent, load

TRAIN = DEV.parent / "train"
LEAST = 0.5
"""Log-odds. Below it, wrong ones come faster than right ones on the held-out blocks."""
_FOLDS = 10
_RIDGE = 3.0


@dataclass(frozen=True, slots=True)
class Example:
    """A pair, its block, whether it was written by hand, whether its words agree, and what it differs in if not."""

    pair: Pair
    block: str
    by_hand: bool
    agrees: bool
    counts: tuple[float, ...] | None


def blocks(path: Path) -> list[tuple[list[str], list[str]]]:
    """Read the blocks of a training file: the questions that are the same, and those that are not."""
    found: list[tuple[list[str], list[str]]] = []
    for line in path.read_text("utf-8").splitlines():
        mark, _, text = line.partition(" ")
        if mark == "=":
            found.append(([text], []))
        elif mark in ("+", "-"):
            found[-1][mark == "-"].append(text)
    return found


def examples() -> list[Example]:
    """Return every pair for development or training."""
    by_hand = load(DEV / "paraphrases.jsonl", same=True) + load(DEV / "traps.jsonl", same=False)
    pairs = [(p, p.first, True) for p in by_hand]
    for path in sorted(TRAIN.glob("groups_*.txt")):
        language = path.stem[-2:]
        for same, other in blocks(path):
            for at, first in enumerate(same):
                pairs += [(Pair(first, second, language, "block", True), same[0], True) for second in same[at + 1 :]]
                pairs += [(Pair(first, second, language, "block", False), same[0], True) for second in other]
    pairs += [(p, p.first, True) for folder in SEEN for p in independent(folder)]
    known = {(p.first, p.second) for p in by_hand}
    pairs += [(p, p.first, False) for p in development() if (p.first, p.second) not in known]
    reading = cache(read)
    found = []
    for pair, block, written in pairs:
        mine, theirs = reading(pair.first), reading(pair.second)
        agrees = not agree(mine, theirs).veto
        found.append(Example(pair, block, written, agrees, None if agrees else differ(mine, theirs)))
    return found


def fitted(rows: Sequence[Example]) -> Judge:
    """Return the weights that fit the pairs best, drawn towards zero (ridge), by Newton's steps."""
    counts = np.array([e.counts for e in rows], dtype=np.float64)
    same = np.array([e.pair.same for e in rows], dtype=np.float64)
    middle, spread = counts.mean(axis=0), counts.std(axis=0) + 1e-6
    scaled = np.column_stack([(counts - middle) / spread, np.ones(len(rows))])
    ridge = np.append(np.full(len(FEATURES), _RIDGE), 1e-6)
    weights = np.zeros(scaled.shape[1])
    for _ in range(50):
        likely = 1 / (1 + np.exp(-scaled @ weights))
        slope = scaled.T @ (likely - same) + ridge * weights
        step = np.linalg.solve((scaled.T * (likely * (1 - likely))) @ scaled + np.diag(ridge), slope)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    plain = weights[:-1] / spread
    return Judge(
        features=FEATURES,
        weights=tuple(round(float(w), 4) for w in plain),
        bias=round(float(weights[-1] - plain @ middle), 4),
        least=LEAST,
    )


def held_out_scores(rows: Sequence[Example]) -> NDArray[np.float64]:
    """Score each pair by weights that saw none of its block."""
    fold: Callable[[Example], int] = lambda e: zlib.crc32(e.block.encode()) % _FOLDS  # noqa: E731
    scores = np.zeros(len(rows))
    for number in range(_FOLDS):
        judge = fitted([e for e in rows if fold(e) != number])
        for at, example in enumerate(rows):
            if fold(example) == number and example.counts is not None:
                scores[at] = judge.score(example.counts)
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What passes by agreement or by the judge, of the pairs written by hand."""

    traps: int
    passed: int
    paraphrases: int
    answered: int


def measured(every: Sequence[Example]) -> Measured:
    """Count what passes, each pair judged by weights that saw none of its block."""
    rows = [e for e in every if e.counts is not None]
    passes = held_out_scores(rows) >= LEAST
    judged = {id(e) for e, passed in zip(rows, passes, strict=True) if passed}
    by_hand = [e for e in every if e.by_hand]
    answered = [e.pair.same for e in by_hand if e.agrees or id(e) in judged]
    return Measured(
        traps=sum(not e.pair.same for e in by_hand),
        passed=answered.count(False),
        paraphrases=sum(e.pair.same for e in by_hand),
        answered=answered.count(True),
    )


def main() -> None:
    every = examples()
    judge = fitted([e for e in every if e.counts is not None])
    for name, weight in sorted(zip(FEATURES, judge.weights, strict=True), key=lambda pair: pair[1]):
        print(f"{name:28} {weight:7.3f}")
    held = measured(every)
    print(f"held out: {held.answered}/{held.paraphrases} paraphrases, {held.passed}/{held.traps} traps, "
          f"<= {upper_bound(held.passed, held.traps):.3%}")  # fmt: skip
    out = Path(ashore.cache.semantic.__file__).parent / "data" / "judge.json"
    out.write_bytes(msgspec.json.format(msgspec.json.encode(judge), indent=1) + b"\n")


if __name__ == "__main__":
    main()
