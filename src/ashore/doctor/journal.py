"""The changes that the doctor made, on disk before they are made, so that each can be undone after a crash too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import msgspec

from ashore.core import UNDECODABLE, make_folder
from ashore.doctor.model import ChangeKind
from ashore.errors import EnvironmentFault

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
    """`doctor/changes.jsonl` of a home. One line for each step; the last line of an id says how it stands."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def write(self, entry: Entry) -> None:
        """Add a step; it is on the disk when this returns."""
        make_folder(self._folder, mode=0o700)
        descriptor = os.open(self._folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(entry) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def entries(self) -> tuple[Entry, ...]:
        """Return each change as it stands, the first one first. A line that was cut off by a crash is left out.

        Raises:
            EnvironmentFault: a line in the middle cannot be read.
        """
        path = self._folder / FILE
        found: dict[int, Entry] = {}
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
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
