"""A folded text while detectors read it, and what stands around a place in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ashore.privacy.folding import fold
from ashore.privacy.model import Entity

BEFORE_CHARS: Final = 28
AFTER_CHARS: Final = 12
"""How far a word may stand from what it explains."""

_WORD_BEFORE: Final = re.compile(r"[A-Za-z0-9_]+\Z")


class Page:
    """One text. Positions are those of the folded text until `entity` brings them back."""

    __slots__ = ("_kept", "text")

    def __init__(self, text: str) -> None:
        self.text, self._kept = fold(text)

    @property
    def kept(self) -> Sequence[int] | None:
        """Original position of each character; None: the same."""
        return self._kept

    def entity(self, kind: str, start: int, end: int) -> Entity:
        """Return what was found, in positions of the original text."""
        if self._kept is None:
            return Entity(kind, start, end)
        return Entity(kind, self._kept[start], self._kept[end - 1] + 1)

    def before(self, start: int, chars: int = BEFORE_CHARS) -> str:
        """Return what stands before a place."""
        return self.text[max(0, start - chars) : start]

    def around(self, start: int, end: int) -> str:
        """Return what stands before and shortly after a place."""
        return f"{self.before(start)}\n{self.text[end : end + AFTER_CHARS]}"

    def glued(self, start: int, end: int) -> bool:
        """Return whether letters that belong to it touch what stands there: then it is a piece of a longer code.

        A word of plain letters before it (`tel13812345678`) is a label; one with digits or of hex letters alone is not.
        """
        text = self.text
        if end < len(text) and (text[end].isascii() and (text[end].isalpha() or text[end] == "_")):
            return True
        if start == 0 or not text[start - 1].isascii() or not (text[start - 1].isalnum() or text[start - 1] == "_"):
            return False
        word = _WORD_BEFORE.search(text[max(0, start - 24) : start])
        return word is None or not word[0].isalpha() or not set(word[0].lower()) - set("abcdef") or len(word[0]) > 12
