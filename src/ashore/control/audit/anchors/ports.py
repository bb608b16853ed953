"""Port of an anchor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Anchor(Protocol):
    """Stores copies of checkpoints where this machine's administrator cannot change them."""

    @property
    def place(self) -> str:
        """Where it is, as an operator wrote it."""
        ...

    def put(self, number: int, line: bytes) -> None:
        """Store a checkpoint. Returns when the anchor has it. May be called twice with the same line.

        Raises:
            SourceUnreachable: it cannot be reached or written now; retry later.
            TamperedAudit: it has a different line with this number.
        """
        ...

    def read(self) -> Iterator[bytes]:
        """Yield the stored lines, in the order of their numbers.

        Raises:
            SourceUnreachable: it cannot be read.
            InvalidRequest: it is write-only; the receiver stores the lines.
        """
        ...
