"""In-memory anchor: the twin of the others."""

from __future__ import annotations

from collections.abc import Iterator

from ashore.core.errors import TamperedAudit


class MemoryAnchor:
    """Keeps lines in a dictionary."""

    def __init__(self, place: str = "memory") -> None:
        self._place = place
        self.lines: dict[int, bytes] = {}

    @property
    def place(self) -> str:
        return self._place

    def put(self, number: int, line: bytes) -> None:
        if self.lines.setdefault(number, line) != line:
            raise TamperedAudit(f"the anchor {self._place} has a different checkpoint {number}")

    def read(self) -> Iterator[bytes]:
        for number in sorted(self.lines):
            yield self.lines[number]
