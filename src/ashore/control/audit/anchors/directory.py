"""Anchor in a folder, best owned by another user or on another machine: one append-only file for each home.

The owner makes the file append-only (`chattr +a`) or mounts the folder from the auditor's machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ashore.core.errors import SourceUnreachable, TamperedAudit
from ashore.data.audit.checkpoints import SignedLine, read_checkpoints
from ashore.kit.decode import UNDECODABLE
from ashore.kit.wholefile import opened


class FolderAnchor:
    """Appends to `FOLDER/HOME.checkpoints`."""

    def __init__(self, folder: Path, home: str) -> None:
        self._folder = folder
        self._file = folder / f"{home}.checkpoints"

    @property
    def place(self) -> str:
        return str(self._folder)

    def put(self, number: int, line: bytes) -> None:
        try:
            last = self._last()
            if last is not None and last.checkpoint().number >= number:
                self._check_same(number, line)
                return
            with opened(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) as descriptor:
                # terminate a half line left by a crash, because an append-only file cannot be cut
                os.write(descriptor, (b"\n" if self._is_torn() else b"") + line + b"\n")
                os.fsync(descriptor)
        except OSError as fault:
            raise SourceUnreachable(
                f"the anchor {self._folder} cannot be written: {fault.strerror}",
                hint="create the directory, and let this user append to a file in it",
            ) from fault

    def read(self) -> Iterator[bytes]:
        if not self._folder.is_dir():
            raise SourceUnreachable(f"the anchor {self._folder} is not a directory", hint="check that it is mounted")
        try:
            yield from (line.raw for line in self._good_lines())
        except OSError as fault:
            raise SourceUnreachable(f"the anchor {self._file} cannot be read: {fault.strerror}") from fault

    def _good_lines(self) -> Iterator[SignedLine]:
        for line in read_checkpoints(self._file):
            try:
                line.checkpoint()
            except UNDECODABLE:
                continue  # half a line of a crashed writer; a missing checkpoint shows by its number
            if line.whole:
                yield line

    def _last(self) -> SignedLine | None:
        if not self._file.exists():
            return None
        with self._file.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - (1 << 20)))
            lines = file.read().split(b"\n")[:-1]
        for raw in reversed(lines):
            line = SignedLine(0, raw, True)
            try:
                line.checkpoint()
            except UNDECODABLE:
                continue
            return line
        return None

    def _is_torn(self) -> bool:
        if not self._file.exists() or self._file.stat().st_size == 0:
            return False
        with self._file.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _check_same(self, number: int, line: bytes) -> None:
        for one in self._good_lines():
            if one.checkpoint().number == number and one.raw != line:
                raise TamperedAudit(
                    f"the anchor {self._folder} has a different checkpoint {number}",
                    hint="an older copy of this home was restored, or the audit rewritten: run `ashore audit verify`",
                )
