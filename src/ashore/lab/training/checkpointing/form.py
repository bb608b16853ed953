"""The file of a checkpoint: safetensors, written from front to back while its bytes are hashed.

The hash is the last part of the file's name, so that nothing is patched: the rename that makes the file valid names
what is in it. Under a data key the same bytes are sealed chunk by chunk.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from ashore.core.errors import CorruptBlob
from ashore.kit.decode import UNDECODABLE
from ashore.kit.sealing import DataKey
from ashore.kit.sealing.sealedfile import open_file
from ashore.kit.sealing.sealedstream import SealedStream
from ashore.kit.wholefile import sync_folder

NAME: Final = re.compile(r"step-(\d{8})-([0-9a-f]{32})\.(safetensors|sealed)")
PIECE_BYTES: Final = 4 << 20
"""What is copied and written at once."""
SPARE_SHARE: Final = 0.05
"""Of the state, or at least a piece, may be copied before an update while the rest is out already."""
_FORM: Final = 2
_LENGTH: Final = struct.Struct("<Q")
_ALIGNMENT: Final = 8
"""Of the first tensor in the file, as safetensors wants it."""
_DTYPES: Final = {
    "float64": "F64",
    "float32": "F32",
    "bfloat16": "BF16",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Header of a checkpoint."""

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
    form: int = _FORM


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state between two steps. Tensors are torch's."""

    position: Position
    tensors: dict[str, Any]


Part = tuple[NDArray[np.uint8], int, int]
"""A tensor's bytes, and which of them. NumPy copies them in the calling thread; torch would wake threads of its own."""


class Layout:
    """Position of each tensor in the file, and the pieces for copying and writing. The values may change."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        """Lay out tensors; wider types come first, so that each lies at a multiple of its own size."""
        import torch

        self.tensors = tensors
        ordered = sorted(tensors.items(), key=lambda one: (-one[1].element_size(), one[0]))
        self.entries: dict[str, dict[str, Any]] = {}
        self.pieces: list[list[Part]] = [[]]
        self.num_bytes, room = 0, PIECE_BYTES
        self.is_live = all(tensor.is_contiguous() for tensor in tensors.values())
        """Whether the pieces show the tensors themselves, and so their values at any later time."""
        for name, tensor in ordered:
            size = tensor.numel() * tensor.element_size()
            dtype = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
            place = [self.num_bytes, self.num_bytes + size]
            self.entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": place}
            self.num_bytes += size
            flat = tensor.detach().contiguous().reshape(-1).view(dtype=torch.uint8).numpy()
            at = 0
            while at < size:
                take = min(room, size - at)
                self.pieces[-1].append((flat, at, at + take))
                at, room = at + take, room - take
                if not room:
                    self.pieces.append([])
                    room = PIECE_BYTES
        if not self.pieces[-1]:
            self.pieces.pop()
        sizes = [piece_bytes(piece) for piece in reversed(self.pieces)]
        self.left = [*reversed([*accumulate(sizes)]), 0]
        """Bytes from each piece to the end."""

    def header(self, position: Position) -> memoryview:
        """Return the bytes before the tensors."""
        told = {"__metadata__": {"ashore": msgspec.json.encode(position).decode()}, **self.entries}
        header = json.dumps(told, separators=(",", ":")).encode()
        header += b" " * (-(_LENGTH.size + len(header)) % _ALIGNMENT)
        return memoryview(_LENGTH.pack(len(header)) + header)


def touched_array(num_bytes: int) -> NDArray[np.uint8]:
    """Return memory of which each page was touched, so that copying never waits for page faults."""
    return np.full(num_bytes, 1, np.uint8)


def piece_bytes(piece: list[Part]) -> int:
    """Return how many bytes a piece has."""
    return sum(stop - start for _, start, stop in piece)


def copy_piece(piece: list[Part], into: NDArray[np.uint8]) -> memoryview:
    """Copy a piece to the beginning of `into`, and return the copied bytes."""
    at = 0
    for flat, start, stop in piece:
        into[at : at + stop - start] = flat[start:stop]
        at += stop - start
    return into.data[:at]


def write_file(folder: Path, step: int, num_bytes: int, chunks: Iterable[memoryview], key: DataKey | None) -> Path:
    """Write a checkpoint to a temporary file, sync and rename it, and return the name.

    Args:
        folder: Exists.
        step: For the name.
        num_bytes: Of all chunks together.
        chunks: What goes into the file, in order. A chunk may be overwritten when the next is asked for.
        key: Seals the file; None: it is clear.

    Raises:
        OSError: the disk. What was written beside is deleted.
    """
    temporary = folder / f".step-{step:08d}.new"
    digest = blake3()
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
            stream = SealedStream(file.fileno(), key, num_bytes) if key else None
            for chunk in chunks:
                digest.update(chunk)
                if stream is not None:
                    stream.write(chunk)
                while stream is None and chunk:
                    chunk = chunk[file.write(chunk) :]
            if stream is not None:
                stream.finish()
            os.fsync(file.fileno())
        target = folder / f"step-{step:08d}-{digest.hexdigest()[:32]}.{'sealed' if key else 'safetensors'}"
        os.replace(temporary, target)
        sync_folder(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return target


def read_file(path: Path, key: DataKey | None) -> Checkpoint | None:
    """Return a checkpoint, or None if the file is incomplete or does not match its name."""
    from safetensors import SafetensorError, safe_open

    named = NAME.fullmatch(path.name)
    try:
        with _clear(path, key) as clear:
            if named is None or _hash_of(clear) != named[2]:
                return None
            with safe_open(clear, framework="pt") as file:
                position = msgspec.json.decode((file.metadata() or {}).get("ashore", ""), type=Position)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, ValueError, CorruptBlob, *UNDECODABLE, SafetensorError):
        return None
    return Checkpoint(position=position, tensors=tensors) if position.form == _FORM else None


def _hash_of(path: Path) -> str:
    with path.open("rb") as file, contextlib.closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as mapped:
        return blake3(mapped).hexdigest()[:32]


@contextmanager
def _clear(path: Path, key: DataKey | None) -> Iterator[Path]:
    """Return the plaintext of a checkpoint as a file; sealed ones are decrypted in memory only."""
    if path.suffix != ".sealed":
        yield path
        return
    if key is None:
        raise CorruptBlob(f"{path} is sealed, and the model of this run is not")
    descriptor = os.memfd_create(f"ashore-{path.name}")
    try:
        open_file(path, descriptor, key, salt=None, what=path.name)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def spare_bytes(state_bytes: int) -> int:
    """Return the spare memory for copies of a state of this size, without the writer's own piece."""
    return min(state_bytes, max(PIECE_BYTES, int(SPARE_SHARE * state_bytes)))
