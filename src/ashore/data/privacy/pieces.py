"""Reads long texts in pieces: work can be stopped between them, and no search holds the interpreter lock for long."""

from __future__ import annotations

from typing import Final

from ashore.core.wanted import check_wanted
from ashore.data.privacy.model import Entity, Finder

PIECE_CHARS: Final = 65_536
"""Of which entities begin in one piece."""
BEFORE_CHARS: Final = 512
"""Context before a piece: no finder looks further back."""
BEHIND_CHARS: Final = 24_576
"""Context after a piece: the longest entity, a private key or a token, ends within."""


class InPieces:
    """A finder that passes one piece at a time to another one. Short texts are passed whole."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    @property
    def kinds(self) -> tuple[str, ...]:
        return self._finder.kinds

    @property
    def name(self) -> str:
        return self._finder.name

    def find(self, text: str) -> tuple[Entity, ...]:
        """Return the entities found, in order, without overlaps.

        Raises:
            NoLongerWanted: the caller has gone.
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
