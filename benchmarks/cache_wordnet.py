"""Write `english_words.tsv` of the semantic cache from the WordNet 3.0 database files.

Run: python benchmarks/cache_wordnet.py /usr/share/wordnet OUT.tsv   (Debian's `wordnet-base` has the files)

A line is `word TAB parts of speech TAB antonyms TAB verbs`, the last for a noun that names a doing. Synonyms are left
out: the senses WordNet joins (`stack` and `heap`, `second` and `minute`) are not those of a question. Only words that
are tagged in WordNet's own corpus, or have several meanings, are kept.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

_PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
_EVENTS = {"04", "09", "10", "11", "22", "26"}
"""Kinds of noun (act, cognition, communication, event, process, state) that name what is done, not who does it."""


def _word(text: str) -> str:
    return text.partition("(")[0].lower()


def main(source: Path, out: Path) -> None:
    counts: dict[tuple[str, str], int] = {}
    for line in (source / "cntlist.rev").read_text("utf-8").splitlines():
        key, sense, count = line.split()
        lemma, _, rest = key.partition("%")
        part = {"1": "n", "2": "v", "3": "a", "5": "a", "4": "r"}[rest[0]]
        counts[lemma, part] = counts.get((lemma, part), 0) + int(count)
        del sense
    parts: dict[str, str] = defaultdict(str)
    for name, part in _PARTS.items():
        for line in (source / f"index.{name}").read_text("utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split()
            lemma, num_senses = fields[0], int(fields[2])
            if not lemma.isalpha() or not lemma.isascii():
                continue
            if counts.get((lemma, part), 0) == 0 and num_senses < 2:
                continue
            parts[lemma] += part
    antonyms, nominal = (defaultdict(set) for _ in range(2))
    for name, part in _PARTS.items():
        synsets: dict[str, tuple[str, list[str], list[str]]] = {}
        for line in (source / f"data.{name}").read_text("utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.partition("|")[0].split()
            num_words = int(fields[3], 16)
            words = [_word(fields[4 + 2 * i]) for i in range(num_words)]
            synsets[fields[0]] = (fields[1], words, fields[4 + 2 * num_words :])
        for kind, words, pointers in synsets.values():
            for at in range(1, 1 + 4 * int(pointers[0]), 4):
                symbol, target, target_part, places = pointers[at : at + 4]
                mine = words[int(places[:2], 16) - 1] if places[:2] != "00" else ""
                if symbol == "!" and target in synsets:
                    theirs = synsets[target][1][int(places[2:], 16) - 1]
                    if mine in parts and theirs in parts:
                        antonyms[mine].add(theirs)
                if symbol == "+" and part == "n" and target_part == "v" and kind in _EVENTS and mine in parts:
                    nominal[mine].add(f"{target}/{places[2:]}")
        if part == "v":
            verbs = synsets
    for noun, targets in nominal.items():
        found = set()
        for target in targets:
            offset, _, place = target.partition("/")
            verb = verbs[offset][1][int(place, 16) - 1]
            if verb in parts and verb[:3] == noun[:3]:
                found.add(verb)
        nominal[noun] = found
    lines = [
        "# From WordNet 3.0, Copyright 2006 by Princeton University. All rights reserved. See WORDNET-LICENSE.txt."
    ]
    for word in sorted(parts):
        columns = (antonyms[word], nominal.get(word, set()))
        lines.append("\t".join([word, parts[word], *(" ".join(sorted(c)) for c in columns)]).rstrip("\t"))
    out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
