"""The changes that the doctor made, on disk before they are made, so that each can be undone after a crash too."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from ashore.control.doctor.model import ChangeKind
from ashore.core.errors import EnvironmentFault
from ashore.kit.decode import UNDECODABLE
from ashore.kit.folders import make_folder

FOLDER: Final = "doctor"
FILE: Final = "changes.jsonl"

Stage = Literal["begun", "made", "undone", "failed", "gone"]
"""begun: written down, and perhaps made. made: it holds. undone: it was put back. failed: it was not made. gone: what
it was about is no more, so there is nothing to put back."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One change, or what became of it."""

    id: int
    stage: Stage
    rule: str
    kind: ChangeKind
    target: str
    before: str
    after: str
    at_s: float
    boot: str = ""
    """Which start of the machine it was made in: processes and kernel settings do not outlive it."""
    note: str = ""


class Journal:
    """`doctor/changes.jsonl` of a home. One line for each step; the last line of an id says how it stands.

    Undoing writes what the journal says where it says, so only one that this user wrote is read: root would otherwise
    do what the owner of a home likes.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the journal: who makes or undoes changes meanwhile, in any process, waits."""
        make_folder(self._folder, mode=0o700)
        descriptor = self._opened(os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def write(self, entry: Entry) -> None:
        """Add a step; it is on the disk when this returns."""
        make_folder(self._folder, mode=0o700)
        descriptor = self._opened(os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, msgspec.json.encode(entry) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def entries(self) -> tuple[Entry, ...]:
        """Return each change as it stands, the first one first. A line that was cut off by a crash is left out.

        Raises:
            EnvironmentFault: a line in the middle cannot be read, or another user wrote the journal.
        """
        path = self._folder / FILE
        found: dict[int, Entry] = {}
        try:
            with os.fdopen(self._opened(os.O_RDONLY), "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return ()
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except UNDECODABLE as fault:
                if number == len(lines):
                    continue
                raise EnvironmentFault(
                    f"{path} line {number} cannot be read: {fault}",
                    hint="move the file away; its changes stay as they are",
                ) from fault
            found[entry.id] = entry
        return tuple(found.values())

    def _opened(self, flags: int) -> int:
        path, why = self._folder / FILE, ""
        descriptor = -1
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise
        except OSError as fault:
            why = "is a link" if fault.errno == errno.ELOOP else f"cannot be opened: {fault.strerror}"
        else:
            told = os.fstat(descriptor)
            if not stat.S_ISREG(told.st_mode) or told.st_uid != os.geteuid():
                os.close(descriptor)
                why = "was written by another user"
        if why:
            raise EnvironmentFault(
                f"the journal {path} {why}",
                hint="make and undo changes as one user; or move the file away, and its changes stay as they are",
            )
        return descriptor
