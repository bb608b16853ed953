"""What an anchor is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Anchor(Protocol):
    """Keeps copies of checkpoints where whoever runs this machine cannot change them."""

    @property
    def place(self) -> str:
        """Where it is, as an operator wrote it."""
        ...

    def put(self, number: int, line: bytes) -> None:
        """Keep a checkpoint. Returns when the anchor has it. May be called twice with the same line.

        Raises:
            SourceUnreachable: it cannot be reached or written now; to be tried again.
            TamperedAudit: it holds another line of this number.
        """
        ...

    def read(self) -> Iterator[bytes]:
        """Yield what is kept, in the order of the numbers.

        Raises:
            SourceUnreachable: it cannot be read.
            InvalidRequest: it can only be written; its other end keeps the lines.
        """
        ...
