"""State of a training run on disk, so that it resumes after `kill -9` without a trace.

One file for each checkpoint (`checkpointing/form.py`): the parameters that are trained, the optimizer's moments, the
state of torch's generator, and in its header the step, the losses so far, and what the run was started with. It is
written to a temporary file, synced and renamed, and its name has the hash of its content; the newest complete one
counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from ashore.core.bytesize import human_bytes
from ashore.core.errors import Conflict, DiskFull
from ashore.kit.decode import UNDECODABLE
from ashore.kit.folders import make_folder
from ashore.kit.sealing import DataKey
from ashore.lab.training.checkpointing.form import (
    NAME,
    PIECE_BYTES,
    Checkpoint,
    Layout,
    Position,
    copy_piece,
    read_file,
    touched_array,
    write_file,
)
from ashore.lab.training.checkpointing.writer import CheckpointWriter

KEPT: Final = 2
"""Checkpoints that stay, so that one is whole whatever happens to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The checkpoints of one run, in a folder of its own. One process at a time."""

    folder: Path
    facts: Mapping[str, str] = field(default_factory=dict)
    key: DataKey | None = None
    """Seals what is written; that of the model, where that is sealed."""

    def writer(self) -> CheckpointWriter:
        """Return the background writer of checkpoints."""
        return CheckpointWriter(self.keep, self.facts)

    def save(self, position: Position, tensors: Mapping[str, Any]) -> Path:
        """Write a checkpoint and return its file; deletes those beyond the kept ones.

        When it returns the checkpoint is on disk; a crash on the way leaves the one before.

        Raises:
            DiskFull: no room; the one before is still there.
        """
        layout, buffer = Layout(tensors), touched_array(PIECE_BYTES)
        header = layout.header(msgspec.structs.replace(position, facts=dict(self.facts)))
        chunks = (copy_piece(piece, buffer) for piece in layout.pieces)
        return self.keep(position.step, len(header) + layout.num_bytes, _behind(header, chunks))

    def keep(self, step: int, num_bytes: int, chunks: Iterator[memoryview]) -> Path:
        """Write the file of a checkpoint, see `write_file`, and delete those beyond the kept ones.

        Raises:
            DiskFull: no room; those before are still there.
        """
        try:
            make_folder(self.folder, mode=0o700)
            for left in self.folder.glob(".step-*.new"):
                left.unlink(missing_ok=True)
            target = write_file(self.folder, step, num_bytes, chunks, self.key)
        except (OSError, *UNDECODABLE) as error:
            raise DiskFull(
                f"a checkpoint of {human_bytes(num_bytes)} cannot be written to {self.folder}: {error}",
                hint="free some space and run the command again; it continues from the previous checkpoint",
            ) from error
        for _, old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)
        return target

    def load(self) -> Checkpoint | None:
        """Return the newest complete checkpoint; None: there is none.

        Raises:
            Conflict: it belongs to a run that was started with other facts; the message names them.
        """
        found = self._newest()
        if found is not None:
            self._require_same(found.position)
        return found

    @property
    def exists(self) -> bool:
        """Whether there is any checkpoint."""
        return bool(self._files())

    def begun_with(self) -> dict[str, str]:
        """Return the facts that the run in this folder was started with; empty without a complete checkpoint."""
        found = self._newest()
        return found.position.facts if found else {}

    def clear(self) -> None:
        """Delete the checkpoints. May be called twice."""
        if self.folder.is_dir():
            for path in self.folder.glob("*step-*"):
                path.unlink(missing_ok=True)

    def _newest(self) -> Checkpoint | None:
        return next((c for _, path in self._files() if (c := read_file(path, self.key)) is not None), None)

    def _files(self) -> list[tuple[int, Path]]:
        """Return steps and files, the newest first."""
        if not self.folder.is_dir():
            return []
        matches = [(NAME.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return sorted(((int(match[1]), path) for match, path in matches if match and path.is_file()), reverse=True)

    def _require_same(self, position: Position) -> None:
        names = sorted(set(position.facts) | set(self.facts))
        other = [
            f"{name} was {position.facts.get(name, 'not given')}, is {self.facts.get(name, 'not given')}"
            for name in names
            if position.facts.get(name) != self.facts.get(name)
        ]
        if other:
            raise Conflict(
                f"the run in {self.folder}, at step {position.step}, had other settings: {'; '.join(other)}",
                hint=f"use the same values, choose another --name, or delete {self.folder}",
            )


def _behind(header: memoryview, chunks: Iterator[memoryview]) -> Iterator[memoryview]:
    yield header
    yield from chunks
