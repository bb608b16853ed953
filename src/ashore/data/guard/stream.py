"""One text stream of an answer, of which no blocked word leaves, wherever its pieces end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ashore.data.guard.lists import GuardList, ListSet
from ashore.data.privacy import Places, fold, is_unseen, lowered

_HALF_ESCAPE: Final = re.compile(r"\\{1,4}(?:u[0-9A-Fa-f]{0,3})?\Z")
"""The beginning of an escape, which the next piece may complete."""
MOST_HELD_CHARS: Final = 2_048
"""More than the longest word has, written in escapes. Only characters that nobody sees make a text that is held longer;
each piece of it is read again from its beginning."""


class WordOutlet:
    """Holds back the end of a text that more text may complete to a word of a list."""

    def __init__(self, lists: ListSet, found: Callable[[GuardList], None]) -> None:
        """Create it. `found` is called for each word, before anything of it is sent, and may raise."""
        self._lists = lists
        self._found = found
        self._held = ""
        self._before = ""
        """What was sent before, folded: the neighbour of the next character, and what `release` sent."""
        self._begin = 0
        """Where in it and what follows the next word may begin."""

    @property
    def holds(self) -> bool:
        """Whether text is held back."""
        return bool(self._held)

    def feed(self, piece: str) -> str:
        """Take the next piece and return the text to send. Raises what `found` raises."""
        self._held += piece
        if len(self._held) <= MOST_HELD_CHARS and self._held != piece and is_unseen(piece):
            return ""  # nothing more is read in it
        text = self._held
        if (half := _HALF_ESCAPE.search(text, max(0, len(text) - 8))) is not None:
            text = text[: half.start()]
        folded, places = self._folded(text)
        cut = self._lists.open_from(folded, self._begin)
        self._look(folded, cut)
        at = cut - len(self._before)
        if at <= 0:
            self._begin = max(self._begin, cut)
            return self.release() if len(text) > MOST_HELD_CHARS and half is None else ""
        sent = len(text) if cut == len(folded) else at if places is None else places.span(at, at + 1)[0]
        self._before, self._begin = folded[cut - 1 : cut], 1
        told, self._held = self._held[:sent], self._held[sent:]
        return told

    def release(self) -> str:
        """Return what is held, where another stream of the same answer goes on. What comes later may still complete a
        word of it, and is then not sent."""
        folded, _ = self._folded(self._held)
        cut = self._lists.open_from(folded, self._begin)
        self._look(folded, cut)
        keep = max(0, cut - 1)
        self._before, self._begin = folded[keep:], cut - keep
        told, self._held = self._held, ""
        return told

    def end(self) -> str:
        """Return the rest. Raises what `found` raises."""
        folded, _ = self._folded(self._held)
        self._look(folded, len(folded))
        told, self._held = self._held, ""
        return told

    def _folded(self, text: str) -> tuple[str, Places | None]:
        tail, places = fold(text, numerals=False)
        return self._before + lowered(tail), places

    def _look(self, folded: str, end: int) -> None:
        for one in self._lists.found_in(folded, self._begin, end):
            self._found(one)
