"""An interrupted pruning: its chosen parts and its healing checkpoint. The same order resumes from there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ashore.core.bytesize import human_bytes
from ashore.core.errors import DiskFull
from ashore.kit.folders import make_folder
from ashore.kit.recordfile import read_record
from ashore.kit.wholefile import write_whole
from ashore.lab.optimize.surgery import StudentPlan
from ashore.lab.training import RunState


class Unfinished:
    """The folder of one order: same model, shares, texts and seed. One process at a time."""

    def __init__(self, root: Path, facts: Mapping[str, str]) -> None:
        """Look at the folder; creates nothing.

        Args:
            root: Has the folders of all orders for one name.
            facts: Everything that the result depends on; other facts have another folder.
        """
        digest = hashlib.sha256(msgspec.json.encode(dict(sorted(facts.items())))).hexdigest()
        self._root = root
        self._folder = root / digest[:16]
        self.state = RunState(folder=self._folder, facts=facts)

    @property
    def exists(self) -> bool:
        """Whether there is something to resume from."""
        return self._folder.is_dir()

    def cut(self) -> StudentPlan | None:
        """Return the chosen parts; None if not reached, or if the file is incomplete."""
        return read_record(self._folder / "cut.json", StudentPlan)

    def keep_cut(self, cut: StudentPlan) -> None:
        """Store the chosen parts. Raises `DiskFull`."""
        data = msgspec.json.encode(cut)
        try:
            make_folder(self._folder)
            write_whole(self._folder / "cut.json", data, mode=0o644)
        except OSError as error:
            raise DiskFull(
                f"{human_bytes(len(data))} cannot be written to {self._folder}: {error.strerror}",
                hint="free some space and run the command again",
            ) from error

    def clear(self) -> None:
        """Delete everything for this name, including older orders. May be called twice."""
        shutil.rmtree(self._root, ignore_errors=True)
