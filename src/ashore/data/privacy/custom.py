"""The operator's own kinds: dictionaries, and expressions in RE2's syntax, which has no backtracking."""

from __future__ import annotations

import re
from typing import Any, Final

from ashore.core.errors import InvalidSpec
from ashore.core.expressions import MOST_PATTERN_BYTES, MOST_PATTERN_CHARS, compile_re2
from ashore.core.nearest import did_you_mean
from ashore.data.privacy.detect import settle
from ashore.data.privacy.model import KINDS, Entity, Finder
from ashore.data.privacy.policy import EVERY, Expression, PrivacyPolicy

MOST_KINDS: Final = 64
MOST_EXPRESSIONS: Final = 256
MOST_WORDS: Final = 100_000
MOST_WORD_CHARS: Final = 200
PART_CHARS: Final = 64 << 10
"""Of the words of a dictionary that are compiled at once: some 50 ms."""
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}


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
        self._words = [
            (one.kind, pattern, one.ignore_case)
            for one in policy.dictionaries
            for pattern in _compile_words(one.kind, one.words, one.ignore_case)
        ]

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
        for kind, pattern, folds in self._words:
            own.extend(
                Entity(kind, m.start(), m.end())
                for m in pattern.finditer(text.lower() if folds and len(text.lower()) == len(text) else text)
            )
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


def _compile_words(kind: str, words: tuple[str, ...], ignore_case: bool) -> list[Any]:
    """Return the patterns of a dictionary; with `ignore_case` they read lowered texts.

    Python's alternation of literals would try every word at every position; RE2's automaton reads each character once.
    RE2 holds the interpreter lock while it compiles, so a large dictionary is compiled in parts, between which other
    threads run.
    """
    import re2

    wrong = [word for word in words if not word.strip() or len(word) > MOST_WORD_CHARS]
    if wrong or not words:
        raise InvalidSpec(
            f"[privacy] dictionary {kind!r} has {f'the word {wrong[0][:40]!r}' if wrong else 'no words'}",
            hint=f"give words of 1 to {MOST_WORD_CHARS} characters",
        )
    folded = {word.lower() if ignore_case else word for word in words}
    options = re2.Options()
    options.max_mem = MOST_PATTERN_BYTES * 16
    options.log_errors = False
    options.longest_match = True
    options.never_capture = True
    patterns: list[Any] = []
    part: list[str] = []
    length = 0
    for word in sorted(folded, key=lambda word: (-len(word), word)):
        part.append(_bounded(re2.escape(word), word))
        length += len(part[-1])
        if length >= PART_CHARS:
            patterns.append(_compile_part(kind, part, options))
            part, length = [], 0
    return [*patterns, _compile_part(kind, part, options)] if part else patterns


def _compile_part(kind: str, part: list[str], options: Any) -> Any:
    import re2

    try:
        return re2.compile("|".join(part), options)
    except re2.error as fault:
        raise InvalidSpec(f"[privacy] dictionary {kind!r} is too large", hint="split it, or shorten it") from fault


def _bounded(pattern: str, word: str) -> str:
    """Return a pattern that finds a word of Latin letters as a whole word only; next to Chinese there are no word
    boundaries."""
    first = r"\b" if word[0].isascii() and word[0].isalnum() else ""
    last = r"\b" if word[-1].isascii() and word[-1].isalnum() else ""
    return first + pattern + last
