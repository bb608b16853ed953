"""Draw the two sets of the optimising benchmark from the WordNet 3.0 database, and write them as tables.

Run: python -m benchmarks.optimise.wordnet /usr/share/wordnet [OUT]   (Debian's `wordnet-base` has the files)

`definitions.tsv` (`split TAB kind TAB definition`): what kind of thing does a definition define? The kinds are sixteen
of the lexicographer files that WordNet's authors filed their nouns in. `words.tsv` (`definition TAB right TAB wrong TAB
wrong TAB wrong`): which of four words does a definition define? Verbs and adjectives that WordNet's own corpus uses,
with wrong words of the same part of speech. One seed draws both, so equal files give equal tables.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SEED: Final = 20261125
KINDS: Final = {
    "04": "act",
    "05": "animal",
    "06": "artifact",
    "07": "attribute",
    "08": "body",
    "09": "cognition",
    "10": "communication",
    "13": "food",
    "14": "group",
    "15": "location",
    "18": "person",
    "20": "plant",
    "21": "possession",
    "26": "state",
    "27": "substance",
    "28": "time",
}
"""Number of the lexicographer file to the kind. Those left out are too small to be balanced. Source: lexnames(5WN)."""
TEST_PER_KIND: Final = 100
TRAIN_PER_KIND: Final = 220
NUM_WORD_ITEMS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Synset:
    """One meaning: its lexicographer file, its first word, and its definition without the examples."""

    file: str
    word: str
    definition: str


def synsets(path: Path) -> Iterator[Synset]:
    """Yield the meanings of a `data.*` file whose definition has 20 to 120 characters. Source: wndb(5WN)."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):  # the licence
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        definition = gloss.strip().split('; "')[0].strip().rstrip(";")
        if 20 < len(definition) < 120 and "\t" not in definition:
            yield Synset(file=fields[1], word=fields[4].partition("(")[0], definition=definition)


def definitions(source: Path, rng: random.Random) -> list[tuple[str, str, str]]:
    """Return (split, kind, definition), equally many of each kind; a definition of two kinds is left out."""
    kinds: dict[str, set[str]] = defaultdict(set)
    texts: dict[str, str] = {}
    for synset in synsets(source / "data.noun"):
        kind = KINDS.get(synset.file)
        if kind is not None:
            kinds[synset.definition.casefold()].add(kind)
            texts.setdefault(synset.definition.casefold(), synset.definition)
    pools: dict[str, list[str]] = {kind: [] for kind in KINDS.values()}
    for key in sorted(kinds):
        if len(kinds[key]) == 1:
            pools[next(iter(kinds[key]))].append(texts[key])
    rows = []
    for kind, pool in pools.items():
        drawn = rng.sample(pool, TEST_PER_KIND + TRAIN_PER_KIND)
        rows += [("test", kind, text) for text in drawn[:TEST_PER_KIND]]
        rows += [("train", kind, text) for text in drawn[TEST_PER_KIND:]]
    rng.shuffle(rows)
    return sorted(rows, key=lambda row: row[0])


def words(source: Path, rng: random.Random) -> list[tuple[str, ...]]:
    """Return (definition, right word, three wrong ones of the same part of speech)."""
    used = {line.split("%")[0] for line in (source / "cntlist.rev").read_text(encoding="utf-8").splitlines()}
    rows: list[tuple[str, ...]] = []
    for part in ("adj", "verb"):
        pool = [s for s in synsets(source / f"data.{part}") if s.word in used and s.word.isalpha() and s.word.islower()]
        pool = list({s.definition: s for s in pool if s.word not in s.definition}.values())
        for synset in rng.sample(pool, NUM_WORD_ITEMS // 2):
            others: set[str] = set()
            while len(others) < 3:
                other = rng.choice(pool)
                if other.word != synset.word and other.file == synset.file:
                    others.add(other.word)
            rows.append((synset.definition, synset.word, *sorted(others)))
    rng.shuffle(rows)
    return rows


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path(__file__).parents[1] / "data" / "optimise")
    given = parser.parse_args()
    write_table(given.out / "definitions.tsv", definitions(given.source, random.Random(SEED)))
    write_table(given.out / "words.tsv", words(given.source, random.Random(SEED)))


if __name__ == "__main__":
    main()
