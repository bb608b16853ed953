"""Read-only anchor: a file with one checkpoint a line, or a syslog file that contains them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidRequest, SourceUnreachable
from ashore.data.audit.checkpoints import SignedLine
from ashore.kit.decode import UNDECODABLE

_CHECKPOINT: Final = re.compile(rb"[A-Za-z0-9+/]{86}== \{.*\}")


class FileOfLines:
    """Reads only. Lines of other homes, and of anything else, are ignored."""

    def __init__(self, path: Path, home: str) -> None:
        self._path = path
        self._home = home

    @property
    def place(self) -> str:
        return str(self._path)

    def put(self, number: int, line: bytes) -> None:
        raise InvalidRequest(
            f"the anchor {self._path} is a file, which can only be read", hint="give a directory as the anchor"
        )

    def read(self) -> Iterator[bytes]:
        """Yield by number: syslog over UDP may reorder or duplicate lines."""
        where: dict[int, int] = {}
        try:
            with self._path.open("rb") as file:
                while raw := file.readline():
                    found = _CHECKPOINT.search(raw)
                    if found is None:
                        continue
                    try:
                        checkpoint = SignedLine(0, found[0], True).checkpoint()
                    except UNDECODABLE:
                        continue
                    if checkpoint.home == self._home:
                        where.setdefault(checkpoint.number, file.tell() - len(raw))
                for number in sorted(where):
                    file.seek(where[number])
                    found = _CHECKPOINT.search(file.readline())
                    assert found is not None
                    yield found[0]
        except OSError as fault:
            raise SourceUnreachable(f"the anchor {self._path} cannot be read: {fault.strerror}") from fault
