"""A folded text for detectors, with access to the surroundings of a position."""

from __future__ import annotations

import re
import string
from typing import Final

from ashore.data.privacy.folding import fold
from ashore.data.privacy.model import Entity

BEFORE_CHARS: Final = 28
AFTER_CHARS: Final = 12
"""Distance of a word from the number that it explains."""

_WORDY: Final = frozenset(string.ascii_letters + "_")
_GLUE: Final = frozenset(string.ascii_letters + string.digits + "_-")
_SHORT_LABELS: Final = frozenset(("TEL", "ID", "NO", "QQ", "HP", "T", "M", "P", "FAX", "SSN", "ISO"))
_WORDS_BEHIND: Final = re.compile(r"[A-Za-z0-9]{1,24}(?:-[A-Za-z0-9]{1,24}){0,3}")
_WORD_BEFORE: Final = re.compile(r"[A-Za-z0-9_]+\Z")


Runs = list[tuple[int, int]]
"""Runs of digits that follow each other with separators between them."""

_BEHIND: Final = re.compile(r"[0-9]+")


def stands_free(text: str, runs: Runs, *, next_width: int = 4) -> bool:
    """Return whether the runs are a whole number, not part of one that continues with the same separators.

    Args:
        text: The text with the runs.
        runs: Two or more; a single run always stands free.
        next_width: Fewest digits behind, less one more separator, that are let pass as another number: groups of up to
            so many digits would make the number longer. 0: whatever follows.
    """
    if len(runs) < 2:
        return True
    gap = text[runs[0][1] : runs[1][0]]
    start, end = runs[0][0], runs[-1][1]
    if text.endswith(gap, 0, start):
        at = start - len(gap)
        width = 0
        while at > 0 and width <= 6 and text[at - 1].isdigit():
            at -= 1
            width += 1
        if 0 < width <= 6:
            return False
    if next_width and text.startswith(gap, end):
        behind = _BEHIND.match(text, end + len(gap))
        if behind is not None and len(behind[0]) <= next_width:
            return False
    return True


class Page:
    """One text. Positions refer to the folded text until `entity` maps them back."""

    __slots__ = ("_low", "_places", "text")

    def __init__(self, text: str) -> None:
        self.text, self._places = fold(text)
        self._low: str | None = None

    @property
    def low(self) -> str:
        """The text in lower case, with equal positions: patterns without letter case are much faster on it."""
        if self._low is None:
            low = self.text.lower()
            same = len(low) == len(self.text)
            self._low = low if same else "".join(char.lower() if char.isascii() else char for char in self.text)
        return self._low

    def letter_before(self, start: int) -> bool:
        """Return whether a Latin letter or a digit directly precedes a position."""
        return start > 0 and self.text[start - 1].isascii() and self.text[start - 1].isalnum()

    def entity(self, kind: str, start: int, end: int) -> Entity:
        """Return the entity, with positions of the original text."""
        if self._places is None:
            return Entity(kind, start, end)
        return Entity(kind, *self._places.span(start, end))

    def before(self, start: int, chars: int = BEFORE_CHARS) -> str:
        """Return the text before a position."""
        return self.text[max(0, start - chars) : start]

    def low_before(self, start: int, chars: int = BEFORE_CHARS) -> str:
        """Return the same in lower case."""
        return self.low[max(0, start - chars) : start]

    def around(self, start: int, end: int) -> str:
        """Return the text around a position: before and shortly after."""
        return f"{self.before(start)}\n{self.text[end : end + AFTER_CHARS]}"

    def glued(self, start: int, end: int) -> bool:
        """Return whether adjacent letters make the match a part of a longer code.

        A word of plain letters before it (`tel13812345678`) is a label; one with digits, of hex letters alone, or of
        few capitals (`SF1234`) is not. A dash between them is ignored.
        """
        text = self.text
        behind = text[end] if end < len(text) else ""
        before = text[start - 1] if start else ""
        if behind not in _GLUE and before not in _GLUE:
            return False
        if behind in _WORDY:
            return True
        if text.startswith("-", end):
            words = _WORDS_BEHIND.match(text, end + 1)
            if words is not None and any(_is_mixed(word) for word in words[0].split("-")):
                return True
        if start and text[start - 1] == "-":
            word = _WORD_BEFORE.search(text, max(0, start - 25), start - 1)
            return word is not None and _is_mixed(word[0])
        word = _WORD_BEFORE.search(text, max(0, start - 24), start)
        if word is None:
            return False
        label = word[0]
        if not label.isalpha() or not set(label.lower()) - set("abcdef") or len(label) > 12:
            return True
        return label.isupper() and len(label) < 4 and label not in _SHORT_LABELS


def _is_mixed(word: str) -> bool:
    return not word.isdigit() and not word.isalpha()
