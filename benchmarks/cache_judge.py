"""Learn the weights of the judge of the semantic cache, and write them where they ship.

Run: python benchmarks/cache_judge.py

The pairs are those of `data/cache/train` (each question of a block with each other one), those of `data/cache/dev`,
those of the first three sets, and the traps that `cache_pairs.py` makes of them by rule. What is printed, and what
`cache_prior.py` charges the level with, is measured on pairs written by hand alone, one author at a time: nobody's
questions are judged by weights that saw any of that author's, since a judge learns an author's habits too. Of a block,
each trap counts once, beside the question whose letters it shares most, and each rewording beside the first question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
AUTHORS = ("a", "b", "c")
"""Who wrote the training blocks that name one; the others were written beside the judge, by one author."""
LEAST = 0.5
"""Log-odds. Below it, wrong ones come faster than right ones on the held-out blocks."""
_RIDGE = 3.0


@dataclass(frozen=True, slots=True)
class Example:
    """A pair, who wrote it, whether it is counted, whether its words agree, and what it differs in if not."""

    pair: Pair
    author: str
    counted: bool
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
    pairs = [(p, "development", True) for p in by_hand]
    for path in sorted(TRAIN.glob("groups_*.txt")):
        _, *name, language = path.stem.split("_")
        author = name[0] if name and name[0] in AUTHORS else "judge"
        for same, other in blocks(path):
            pairs += [(p, author, counted) for p, counted in _of_block(same, other, language)]
    pairs += [(p, folder.name, True) for folder in SEEN for p in independent(folder)]
    known = {(p.first, p.second) for p in by_hand}
    pairs += [(p, "development", False) for p in development() if (p.first, p.second) not in known]
    reading = cache(read)
    found = []
    for pair, author, counted in pairs:
        mine, theirs = reading(pair.first), reading(pair.second)
        agrees = not agree(mine, theirs).veto
        found.append(Example(pair, author, counted, agrees, None if agrees else differ(mine, theirs)))
    return found


def _of_block(same: Sequence[str], other: Sequence[str], language: str) -> Iterator[tuple[Pair, bool]]:
    """Pair each question with each other of the block; tell which pairs are counted."""
    for at, first in enumerate(same):
        for second in same[at + 1 :]:
            yield Pair(first, second, language, "block", True), at == 0
    for second in other:
        nearest = max(same, key=lambda first: _letters_shared(first, second))
        for first in same:
            yield Pair(first, second, language, "block", False), first is nearest


def _letters_shared(one: str, other: str) -> float:
    """Return the share of letter pairs that two texts have in common (Dice)."""
    mine, theirs = ({text[at : at + 2] for at in range(len(text) - 1)} for text in (one.lower(), other.lower()))
    return 2 * len(mine & theirs) / max(1, len(mine) + len(theirs))


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
    """Score each pair by weights that saw none of its author's."""
    scores = np.zeros(len(rows))
    for author in {e.author for e in rows}:
        judge = fitted([e for e in rows if e.author != author])
        for at, example in enumerate(rows):
            if example.author == author and example.counts is not None:
                scores[at] = judge.score(example.counts)
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What passes by agreement or by the judge, of the pairs that are counted."""

    traps: int
    passed: int
    paraphrases: int
    answered: int

    def __str__(self) -> str:
        return (
            f"{self.answered}/{self.paraphrases} paraphrases ({self.answered / max(1, self.paraphrases):.1%}), "
            f"{self.passed}/{self.traps} traps, <= {upper_bound(self.passed, self.traps):.3%}"
        )


def measured(every: Sequence[Example]) -> dict[str, Measured]:
    """Count what passes, by author and for `all`, each pair judged by weights that saw none of its author's."""
    rows = [e for e in every if e.counts is not None]
    passes = held_out_scores(rows) >= LEAST
    judged = {id(e) for e, passed in zip(rows, passes, strict=True) if passed}
    counted = [e for e in every if e.counted]
    by_author: dict[str, list[Example]] = {"all": counted}
    for example in counted:
        by_author.setdefault(example.author, []).append(example)
    return {author: _tally(mine, judged) for author, mine in by_author.items()}


def _tally(mine: Sequence[Example], judged: set[int]) -> Measured:
    answered = [e.pair.same for e in mine if e.agrees or id(e) in judged]
    return Measured(
        traps=sum(not e.pair.same for e in mine),
        passed=answered.count(False),
        paraphrases=sum(e.pair.same for e in mine),
        answered=answered.count(True),
    )


def main() -> None:
    every = examples()
    judge = fitted([e for e in every if e.counts is not None])
    for name, weight in sorted(zip(FEATURES, judge.weights, strict=True), key=lambda pair: pair[1]):
        print(f"{name:28} {weight:7.3f}")
    for author, held in measured(every).items():
        print(f"held out, {author}: {held}")
    out = Path(ashore.cache.semantic.__file__).parent / "data" / "judge.json"
    out.write_bytes(msgspec.json.format(msgspec.json.encode(judge), indent=1) + b"\n")


if __name__ == "__main__":
    main()
