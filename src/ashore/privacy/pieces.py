"""Long texts read in pieces: between two of them it can be stopped, and no search holds the interpreter long."""

from __future__ import annotations

from typing import Final

from ashore.core import check_wanted
from ashore.privacy.model import Entity, Finder

PIECE_CHARS: Final = 65_536
"""Of which entities begin in one piece."""
BEFORE_CHARS: Final = 512
"""What a piece sees of the text before it: no finder looks further back."""
BEHIND_CHARS: Final = 24_576
"""What it sees behind: the longest entity, a private key or a token, ends within."""


class InPieces:
    """A finder that gives another one no more than a piece at a time. Short texts go to it as they are."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    @property
    def kinds(self) -> tuple[str, ...]:
        return self._finder.kinds

    @property
    def name(self) -> str:
        return self._finder.name

    def find(self, text: str) -> tuple[Entity, ...]:
        """Return what is found, in order, without overlaps.

        Raises:
            NoLongerWanted: whoever asked has gone.
        """
        check_wanted()
        if len(text) <= PIECE_CHARS + BEHIND_CHARS:
            return self._finder.find(text)
        found: list[Entity] = []
        end = 0
        for start in range(0, len(text), PIECE_CHARS):
            check_wanted()
            first = max(0, start - BEFORE_CHARS)
            for one in self._finder.find(text[first : start + PIECE_CHARS + BEHIND_CHARS]):
                begin = first + one.start
                if max(start, end) <= begin < start + PIECE_CHARS:
                    end = first + one.end
                    found.append(Entity(one.kind, begin, end))
        return tuple(found)
