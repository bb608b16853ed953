"""Where a training run stands, on disk, so that it goes on after `kill -9` as if nothing had been.

One file for each checkpoint, `step-00000120.safetensors`: the parameters that are trained, the optimizer's moments, the
state of torch's generator, and in its header the step, the losses so far, and what the run was started with. It is
written beside, synced and renamed; its content is hashed, and of the last two, which are kept, the newest whole one
counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from blake3 import blake3

from ashore.core import UNDECODABLE, human_bytes, make_folder
from ashore.errors import Conflict, DiskFull

KEPT: Final = 2
_FORM: Final = 1
_NAME: Final = re.compile(r"step-(\d{8})\.safetensors")


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What the header of a checkpoint says."""

    step: int
    """Steps that are done."""
    tokens: int
    """Tokens that they went through."""
    seconds: float
    """Time that they took, over all processes that had a part in it."""
    losses: tuple[float, ...] = ()
    """Of each step, per target."""
    facts: dict[str, str] = {}
    """What the run was started with; a run with other facts may not go on from here."""
    hash: str = ""
    form: int = _FORM


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One moment between two steps. Tensors are torch's."""

    position: Position
    tensors: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The checkpoints of one run, in a folder of its own. One process at a time."""

    folder: Path
    facts: Mapping[str, str] = field(default_factory=dict)

    def save(self, position: Position, tensors: Mapping[str, Any]) -> Path:
        """Write a checkpoint and return its file; older ones than the one before it are deleted.

        When it returns the checkpoint is on disk; a crash on the way leaves the one before.

        Raises:
            DiskFull: no room; the one before is still there.
        """
        from safetensors.torch import save_file

        target = self.folder / f"step-{position.step:08d}.safetensors"
        position = msgspec.structs.replace(position, facts=dict(self.facts), hash=_hash_of(tensors))
        header = {"ashore": msgspec.json.encode(position).decode()}
        temporary = self.folder / f".{target.name}.new"
        try:
            make_folder(self.folder)
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=header)
            _sync(temporary)
            os.replace(temporary, target)
            _sync(self.folder)
        except (OSError, *UNDECODABLE, _safetensors_error()) as error:
            temporary.unlink(missing_ok=True)
            need = human_bytes(sum(t.numel() * t.element_size() for t in tensors.values()))
            raise DiskFull(
                f"a checkpoint of {need} cannot be written to {self.folder}: {error}",
                hint="free some space and run the command again; it continues from the previous checkpoint",
            ) from error
        for _, old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)
        return target

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; None where there is none.

        Raises:
            Conflict: it belongs to a run that was started with other facts; the message names them.
        """
        for _, path in self._files():
            found = _read(path)
            if found is not None:
                self._require_same(found.position, path)
                return found
        return None

    @property
    def exists(self) -> bool:
        """Whether there is any checkpoint."""
        return bool(self._files())

    def begun_with(self) -> dict[str, str]:
        """Return the facts that the run in this folder was started with; none where there is no whole checkpoint."""
        found = next((c for _, path in self._files() if (c := _read(path)) is not None), None)
        return found.position.facts if found else {}

    def clear(self) -> None:
        """Delete the checkpoints. May be called twice."""
        if self.folder.is_dir():
            for path in self.folder.glob("*step-*.safetensors*"):
                path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, Path]]:
        """Return steps and files, the newest first."""
        if not self.folder.is_dir():
            return []
        matches = [(_NAME.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)

    def _require_same(self, position: Position, path: Path) -> None:
        names = sorted(set(position.facts) | set(self.facts))
        other = [
            f"{name} was {position.facts.get(name, 'not given')}, is {self.facts.get(name, 'not given')}"
            for name in names
            if position.facts.get(name) != self.facts.get(name)
        ]
        if other:
            raise Conflict(
                f"the run in {path.parent}, at step {position.step}, had other settings: {'; '.join(other)}",
                hint=f"use the same values, choose another --name, or delete {path.parent}",
            )


def _read(path: Path) -> Checkpoint | None:
    """Return a checkpoint, or None where the file is not whole."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            position = msgspec.json.decode((file.metadata() or {}).get("ashore", ""), type=Position)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, *UNDECODABLE, _safetensors_error()):
        return None
    if position.form != _FORM or position.hash != _hash_of(tensors):
        return None
    return Checkpoint(position=position, tensors=tensors)


def _hash_of(tensors: Mapping[str, Any]) -> str:
    digest = blake3()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.reshape(-1).view(dtype=_bytes()).numpy()))
    return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
