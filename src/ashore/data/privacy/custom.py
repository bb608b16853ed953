"""The operator's own kinds: dictionaries, and expressions in RE2's syntax, which has no backtracking."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ashore.core.errors import InvalidSpec
from ashore.core.expressions import MOST_PATTERN_CHARS, compile_re2
from ashore.core.nearest import did_you_mean
from ashore.data.privacy.detect import settle
from ashore.data.privacy.model import KINDS, Entity, Finder
from ashore.data.privacy.policy import EVERY, Dictionary, Expression, PrivacyPolicy

MOST_KINDS: Final = 64
MOST_EXPRESSIONS: Final = 256
MOST_WORDS: Final = 100_000
MOST_WORD_CHARS: Final = 200
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_INSIDE_BEGIN: Final = re.compile(r"\w[^\W_]", re.ASCII)
_INSIDE_END: Final = re.compile(r"[^\W_]\w", re.ASCII)
_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}


class Words:
    """Finds the words of one dictionary: the leftmost, and of those the longest.

    The first two characters of a word lead to the lengths of words that begin so. What is not a beginning costs one
    look, however many words there are.
    """

    def __init__(self, one: Dictionary) -> None:
        """Read the words.

        Raises:
            InvalidSpec: there are none, or one is blank or too long.
        """
        wrong = [word for word in one.words if not word.strip() or len(word) > MOST_WORD_CHARS]
        if wrong or not one.words:
            raise InvalidSpec(
                f"[privacy] dictionary {one.kind!r} has {f'the word {wrong[0][:40]!r}' if wrong else 'no words'}",
                hint=f"give words of 1 to {MOST_WORD_CHARS} characters",
            )
        self.kind: Final = one.kind
        self._folds = one.ignore_case
        self._words = {lowered(word) if one.ignore_case else word for word in one.words}
        self.firsts: Final = frozenset(word[0] for word in self._words)
        """The characters that words begin with."""
        lengths: dict[str, set[int]] = {}
        for word in self._words:
            lengths.setdefault(word[:2], set()).add(len(word))
        self._lengths: Final[dict[str, list[int]]] = {
            begin: sorted(found, reverse=True) for begin, found in lengths.items()
        }
        self._singles = {word for word in self._words if len(word) == 1}

    @property
    def longest(self) -> Mapping[str, int]:
        """The length of the longest word, by the first two characters of it."""
        return {begin: found[0] for begin, found in self._lengths.items()}

    def find(self, text: str, begin: int = 0) -> Iterator[Entity]:
        """Yield the words in a text that begin at `begin` or later, in order, without overlaps."""
        if self._folds:
            text = lowered(text)
        lengths, singles, end = self._lengths, self._singles, 0
        if singles:
            begins = [i for i in range(begin, len(text)) if text[i] in singles or text[i : i + 2] in lengths]
        else:
            begins = [i for i in range(begin, len(text)) if text[i : i + 2] in lengths]
        for start in begins:
            if start >= end and (length := self._longest(text, start)):
                end = start + length
                yield Entity(self.kind, start, end)

    def _longest(self, text: str, start: int) -> int:
        """Return the length of the longest word that begins at `start`; 0: none does.

        A word that begins or ends with a letter or digit of ASCII is a whole word: none stands beside it. Next to
        Chinese there are no word boundaries.
        """
        if start and _INSIDE_BEGIN.match(text, start - 1):
            return 0
        for length in (*self._lengths.get(text[start : start + 2], []), 1):
            end = start + length
            if text[start:end] in self._words and not _INSIDE_END.match(text, end - 1):
                return length
        return 0


def lowered(text: str) -> str:
    """Return a text in small letters, as long as it was: of all capitals only the Turkish I with a dot makes two."""
    return text.replace("\u0130", "i").lower()


class CustomFinder:
    """Combines another finder with the operator's kinds, which take precedence."""

    def __init__(self, finder: Finder, policy: PrivacyPolicy) -> None:
        """Compile everything.

        Raises:
            InvalidSpec: a kind's name, an expression or a dictionary cannot be used; the message has which and why.
        """
        check_kinds(policy)
        self._finder = finder
        self._own = policy.custom_kinds()
        self._expressions = [(one.kind, compile_expression(one)) for one in policy.expressions]
        self._words = [Words(one) for one in policy.dictionaries]

    @property
    def kinds(self) -> tuple[str, ...]:
        return (*self._finder.kinds, *(kind for kind in self._own if kind not in self._finder.kinds))

    @property
    def name(self) -> str:
        return self._finder.name

    def find(self, text: str) -> tuple[Entity, ...]:
        """Return the entities found, in order, without overlaps."""
        found = list(self._finder.find(text))
        own: list[Entity] = []
        for kind, pattern in self._expressions:
            own.extend(Entity(kind, m.start(), m.end()) for m in pattern.finditer(text) if m.end() > m.start())
        for words in self._words:
            own.extend(words.find(text))
        return settle([*own, *found], _RANK) if own else tuple(found)


def check_policy(policy: PrivacyPolicy) -> None:
    """Check that a policy can be used: its kinds are known, its own kinds are within bounds and compile.

    Raises:
        InvalidSpec: it cannot; the message has what and why.
    """
    CustomFinder(_Nothing(), policy)
    known = (EVERY, *KINDS, *policy.custom_kinds())
    placed = [actions for one in (*policy.routes, *policy.floors) for actions in (one.prompts, one.answers)]
    for actions in (policy.prompts, policy.answers, *placed):
        for kind in actions:
            if kind not in known:
                raise InvalidSpec(f"[privacy] has the unknown kind {kind[:40]!r}", hint=did_you_mean(kind[:40], known))


class _Nothing:
    """Finds nothing."""

    kinds: tuple[str, ...] = KINDS
    name = "nothing"

    def find(self, text: str) -> tuple[Entity, ...]:
        return ()


def check_kinds(policy: PrivacyPolicy) -> None:
    """Check that the names and sizes of the operator's kinds are within bounds.

    Raises:
        InvalidSpec: they are not.
    """
    for kind in policy.custom_kinds():
        if not _KIND.fullmatch(kind) or kind in KINDS:
            raise InvalidSpec(
                f"[privacy] has a custom kind named {kind[:40]!r}",
                hint=f"use at most 32 lower-case letters, digits and _, and none of {', '.join(KINDS)}",
            )
    for what, number, most in (
        ("custom kinds", len(policy.custom_kinds()), MOST_KINDS),
        ("expressions", len(policy.expressions), MOST_EXPRESSIONS),
        ("dictionary words", sum(len(one.words) for one in policy.dictionaries), MOST_WORDS),
    ):
        if number > most:
            raise InvalidSpec(f"[privacy] has {number:,} {what}; at most {most:,} are allowed", hint="remove some")


def compile_expression(one: Expression) -> Any:
    """Return a compiled expression.

    Raises:
        InvalidSpec: it is too long, is not an RE2 expression, takes too much memory, or matches the empty text.
    """
    where = f"[privacy] expression {one.kind!r}"
    if not 0 < len(one.pattern) <= MOST_PATTERN_CHARS:
        raise InvalidSpec(
            f"{where} has {len(one.pattern):,} characters; expected 1 to {MOST_PATTERN_CHARS:,}", hint="shorten it"
        )
    pattern = compile_re2(one.pattern, where, ignore_case=one.ignore_case)
    if pattern.search("") is not None:
        raise InvalidSpec(f"{where} matches the empty text", hint="make it match at least one character")
    return pattern
