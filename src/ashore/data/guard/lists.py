"""Lists of words, compiled: which are about an alias, and what a text has of them.

Texts are folded before they are read: full-width letters, other spaces, escapes, and characters that nobody sees are
undone, capitals are small letters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain
from typing import Final, Literal

import msgspec

from ashore.core.errors import ContentBlocked, InvalidRequest
from ashore.core.wanted import check_wanted
from ashore.data.privacy import BEHIND_CHARS, PIECE_CHARS, Dictionary, Words, fold

Do = Literal["monitor", "block"]
"""monitor: what is found is counted and recorded. block: a prompt is refused, and an answer ends before the word."""
Where = Literal["prompts", "answers", "both"]
MOST_WORDS: Final = 100_000
"""Of one list."""
MOST_LISTS: Final = 64
MOST_TOKENS: Final = 65_536
"""Of which one set of lists keeps whether it blocks them."""


class GuardList(msgspec.Struct, frozen=True, kw_only=True):
    """One list, as the state has it."""

    name: str
    category: str
    words: tuple[str, ...]
    do: Do = "monitor"
    where: Where = "both"
    aliases: tuple[str, ...] = ()
    """Empty: every alias."""
    refusal: str = ""
    changed_s: int = 0
    changed_by: str = ""

    @property
    def digest(self) -> str:
        """Name of its content: what is found and done, 16 hexadecimal digits."""
        said = msgspec.json.encode((self.name, self.category, self.do, self.where, self.aliases, self.refusal))
        return hashlib.blake2b(said + "\n".join(self.words).encode(), digest_size=8).hexdigest()


def words_in(text: str) -> tuple[str, ...]:
    """Return the words of a file with one a line; blank lines and lines with `#` in front are left out.

    Raises:
        InvalidRequest: there are none, or too many.
    """
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    words = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not 1 <= len(words) <= MOST_WORDS:
        raise InvalidRequest(
            f"the list has {len(words):,} words; expected 1 to {MOST_WORDS:,}",
            hint="write one word or phrase a line",
            param="words",
        )
    return words


class Compiled:
    """One list, ready to search."""

    def __init__(self, one: GuardList) -> None:
        """Read the words.

        Raises:
            InvalidSpec: one is blank or too long.
        """
        self.list: Final = one
        self.digest: Final = one.digest
        folded = tuple(dict.fromkeys(fold(word, numerals=False)[0] for word in one.words))
        self.words: Final = Words(Dictionary(kind=one.name, words=folded))

    def is_about(self, names: Iterable[str]) -> bool:
        """Return whether it holds for one of these aliases; for a model it holds for its adapters, too."""
        of = self.list.aliases
        return not of or any(name == one or name.startswith(f"{one}:") for name in names for one in of)


@dataclass(slots=True)
class Hits:
    """What the lists found in one request. Counted by list, what it does, and place."""

    counts: dict[str, int] = field(default_factory=dict)

    def take(self, one: GuardList, place: str) -> None:
        """Count a word.

        Raises:
            ContentBlocked: the list blocks it.
        """
        name = f"{one.name} {one.do} {place}"
        self.counts[name] = self.counts.get(name, 0) + 1
        if one.do == "block":
            raise ContentBlocked(
                one.refusal or f"the {place} has a word of the guard list {one.name!r} ({one.category})",
                hint="change the text; `ashore guard list` shows an administrator the list",
                found={name: self.counts[name]},
            )


class ListSet:
    """The lists that hold for one alias at one place."""

    def __init__(self, lists: Sequence[Compiled]) -> None:
        self.lists: Final = tuple(lists)

    @cached_property
    def _firsts(self) -> frozenset[str]:
        return frozenset(chain.from_iterable(one.words.firsts for one in self.lists))

    @cached_property
    def _longest(self) -> dict[str, int]:
        longest: dict[str, int] = {}
        for one in self.lists:
            for begin, length in one.words.longest.items():
                longest[begin] = max(length, longest.get(begin, 0))
        return longest

    @cached_property
    def _most(self) -> int:
        return max(self._longest.values(), default=1)

    @cached_property
    def blocks(self) -> Callable[[str], bool]:
        """Says of a short text, such as one token, whether a list blocks it."""
        return lru_cache(MOST_TOKENS)(lambda text: any(one.do == "block" for one, _, _ in self.find(text)))

    def __bool__(self) -> bool:
        return bool(self.lists)

    def find(self, text: str) -> Iterator[tuple[GuardList, int, int]]:
        """Yield what a whole text has, with its place there, list by list."""
        for start in range(0, max(1, len(text)), PIECE_CHARS):
            check_wanted()
            before = max(0, start - 1)
            folded, places = fold(text[before : start + PIECE_CHARS + BEHIND_CHARS], numerals=False)
            for one in self.lists:
                for word in one.words.find(folded):
                    at, end = (word.start, word.end) if places is None else places.span(word.start, word.end)
                    if start <= before + at < start + PIECE_CHARS:
                        yield one.list, before + at, before + end

    def found_in(self, folded: str, begin: int, end: int) -> Iterator[GuardList]:
        """Yield the list of every word that begins within these places of a folded text."""
        for one in self.lists:
            for word in one.words.find(folded, begin):
                if word.start >= end:
                    break
                yield one.list

    def open_from(self, folded: str, begin: int) -> int:
        """Return the first place from `begin` on where a word may begin that more text completes."""
        size = len(folded)
        may_end_inside = folded[-1:].isascii() and folded[-1:].isalnum()  # the next character may belong to the word
        for at in range(max(begin, size - self._most), size):
            if at == size - 1:
                return at if folded[at] in self._firsts else size
            if self._longest.get(folded[at : at + 2], 0) + may_end_inside > size - at:
                return at
        return size


NOTHING: Final = ListSet(())
MOST_SETS: Final = 256


@dataclass(frozen=True, slots=True)
class InForce:
    """Every list of the state. Replaced as a whole."""

    lists: tuple[Compiled, ...] = ()
    stamp: bytes = b""
    """Changes with any list."""
    sets: dict[tuple[str, ...], tuple[ListSet, ListSet, bytes]] = field(default_factory=dict)
    """For prompts and answers, with their stamp, by alias; made on first use."""

    def of(self, names: tuple[str, ...]) -> tuple[ListSet, ListSet, bytes]:
        """Return what holds for an alias and the models behind it: in prompts, in answers, and a stamp that changes
        with it."""
        if not self.lists:
            return NOTHING, NOTHING, b""
        known = self.sets.get(names)
        if known is None:
            if len(self.sets) >= MOST_SETS:
                self.sets.clear()
            ours = [one for one in self.lists if one.is_about(names)]
            known = self.sets[names] = (
                ListSet([one for one in ours if one.list.where != "answers"]),
                ListSet([one for one in ours if one.list.where != "prompts"]),
                " ".join(sorted(one.digest for one in ours)).encode(),
            )
        return known


class Guard:
    """The lists of one process. `take` may be called from any thread; a request keeps the lists of its arrival."""

    def __init__(self) -> None:
        self.now = InForce()

    def take(self, lists: Iterable[GuardList]) -> None:
        """Apply these lists and no others. Lists that did not change are not read again.

        Raises:
            InvalidSpec: a word cannot be used; the lists before stay in force.
        """
        known = {one.digest: one for one in self.now.lists}
        kept = tuple(known.get(one.digest) or Compiled(one) for one in lists)
        self.now = InForce(kept, " ".join(one.digest for one in kept).encode())

    @property
    def every(self) -> ListSet:
        """All lists, whatever they do and wherever."""
        return ListSet(self.now.lists)
