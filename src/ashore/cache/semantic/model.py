"""What a question was read as, and what a search answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NewType

EntryKey = NewType("EntryKey", str)
"""The name under which the caller keeps the answer of an entry."""

Language = Literal["en", "zh", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word that carries meaning, in the place where it stood."""

    text: str
    """The base form; facts start with `#` (`#5 kg`, `#date 2026-02-01`, `#code load_model`)."""
    meanings: frozenset[int] = frozenset()
    """Numbers of the synonym groups it belongs to."""
    role: str = ""
    """The direction word before it (`from`, `than`, `in` ...), or nothing."""
    negated: bool = False
    verb: bool = False
    """It may stand before or after its object."""
    parts: tuple[Word, ...] = ()
    """The words of a phrase, each by itself; nothing for a single word, or where one of them is a function word."""
    chunk: int = 0
    """Which part of the sentence it stands in; a preposition or a possessive starts the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A question taken apart. Two questions may share an answer only if their readings agree."""

    language: Language
    kind: str
    """What is asked for: `how`, `why`, `when`, `where`, `who`, `what`, `yes-no`, `how-many` ..., or nothing."""
    words: tuple[Word, ...]
    facts: tuple[str, ...]
    """Numbers, dates, codes and quotations, sorted."""
    modals: frozenset[str] = frozenset()
    stance: frozenset[str] = frozenset()
    """Every `can`, `must`, `should`, `advise`, `want` and `will` in it, whether or not that counts as a modal."""
    tense: str = "present"
    persons: frozenset[str] = frozenset()
    passive: bool = False
    """The subject is what the verb is done to (`is paid`)."""
    turn: int = 0
    """How many words stood before the question word, where that word may stand anywhere (`密码怎么重置`)."""
    symmetric: bool = False
    """The two sides of an `and` may change places (a difference, a comparison)."""
    bare: bool = False
    """Keywords alone, without an article, an auxiliary or a preposition; the order of its parts is free."""
    asked: frozenset[str] = frozenset()
    """What its question words ask for, wherever they stand (`asked.py`)."""
    surface: str = ""
    """Its bare words, sorted: all that is not courtesy, also what the reading leaves out as saying little."""
    unfit: str = ""
    """Why this question is never matched by meaning; empty when it may be."""

    @property
    def keywords(self) -> bool:
        """Tell whether it is a row of keywords: nothing is asked, and no English function word stands in it."""
        return not self.kind and (self.bare or self.language == "zh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An entry whose answer may be given."""

    key: EntryKey
    similarity: float
    confidence: float
    """Lower bound on the probability that the entry's answer is right for the question."""
    level: int = 0
    """How loose the agreement is: 0 the same words and reading, 1 the same reading, 4 barely, 5 by the judge alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """Counts since start, and what is held now."""

    entries: int
    tenants: int
    held_bytes: int
    lookups: int
    hits: int
    evicted: int
    judged_right: int
    judged_wrong: int
