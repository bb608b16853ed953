"""The word lists that ship: synonym groups, irregular forms, and what WordNet knows of English words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class EnglishWord:
    """What WordNet says of one base form."""

    parts: str
    antonyms: frozenset[str]
    verbs: frozenset[str]
    """For a noun that names a doing: its verb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Words and phrases that may stand for each other."""

    meanings: dict[str, frozenset[int]]
    verbs: frozenset[str]
    longest: int
    """Most words (English) or characters (Chinese) of a phrase."""
    lengths: dict[str, int]
    """Most words of a phrase that starts with this word; English only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LightWords:
    """Words that say little beside the others, by what they are, and those that never do."""

    kinds: dict[str, str]
    contrast: frozenset[str]

    def kind_of(self, word: str) -> str:
        """Return `light verb`, `carrier`, `hedge`, `suffix` or `content`."""
        return self.kinds.get(word, "content")


@cache
def english_words() -> dict[str, EnglishWord]:
    found = {}
    for line in _lines("english_words.tsv"):
        word, parts, *rest = line.split("\t")
        antonyms, verbs = (frozenset(c.split()) for c in (rest + [""] * 2)[:2])
        found[word] = EnglishWord(parts=parts, antonyms=antonyms, verbs=verbs)
    return found


@cache
def english_forms() -> dict[str, tuple[str, str]]:
    """Irregular forms: the base form, and `p` past tense, `d` participle or `n` plural."""
    return {form: (base, kind) for form, base, kind in (line.split("\t") for line in _lines("english_forms.txt"))}


@cache
def english_groups() -> Groups:
    return _groups(("english_synonyms.txt", "english_domains.txt"), " ")


@cache
def chinese_groups() -> Groups:
    return _groups(("chinese_synonyms.txt", "chinese_domains.txt"), "")


@cache
def light_words() -> LightWords:
    sections: dict[str, set[str]] = {}
    for line in _lines("light_words.txt"):
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), set())
            continue
        section.update(word.replace("_", " ") for word in line.split())
    kinds = {word: name for name in ("carrier", "hedge", "suffix") for word in sections[name]}
    kinds |= dict.fromkeys(sections["verb"], "light verb")
    return LightWords(kinds=kinds, contrast=frozenset(sections["contrast"]))


@cache
def loose_synonyms() -> dict[str, frozenset[int]]:
    """Return the numbers of the lines that a word or phrase stands in: what shares one often means the same."""
    found: dict[str, set[int]] = {}
    joint = " "
    for number, line in enumerate(_lines("loose_synonyms.txt")):
        if line.startswith("["):
            joint = " " if line == "[english]" else ""
            continue
        for word in line.split():
            found.setdefault(word.replace("_", joint), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


@cache
def never_synonyms() -> frozenset[frozenset[str]]:
    """Pairs of words that stand for different things however near they are."""
    found: set[frozenset[str]] = set()
    for line in _lines("never_synonyms.txt"):
        if not line.startswith("["):
            words = [word.replace("_", " ") for word in line.split()]
            found.update(frozenset((a, b)) for at, a in enumerate(words) for b in words[at + 1 :])
    return frozenset(found)


def _groups(names: tuple[str, ...], joint: str) -> Groups:
    meanings: dict[str, set[int]] = {}
    verbs: set[str] = set()
    in_verbs = False
    for number, line in enumerate(line for name in names for line in _lines(name)):
        if line.startswith("["):
            in_verbs = line == "[verbs]"
            continue
        for entry in line.split():
            phrase = entry.replace("_", joint)
            meanings.setdefault(phrase, set()).add(number)
            if in_verbs:
                verbs.add(phrase)
    longest = max(len(p.split() if joint else p) for p in meanings)
    lengths: dict[str, int] = {}
    for phrase in meanings if joint else ():
        first, *rest = phrase.split()
        lengths[first] = max(lengths.get(first, 1), 1 + len(rest))
    return Groups(
        meanings={p: frozenset(g) for p, g in meanings.items()},
        verbs=frozenset(verbs),
        longest=longest,
        lengths=lengths,
    )


def _lines(name: str) -> Iterator[str]:
    text = (files("ashore.cache.semantic") / "data" / name).read_text("utf-8")
    return (line for line in text.splitlines() if line and not line.startswith("#"))
