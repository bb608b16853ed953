"""The header of a safetensors file, read without any library: what tensors it has, of what type and where.

Source: safetensors format, README of the project (8 bytes length, JSON header, data).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from ashore.errors import CorruptBlob

MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlace:
    """One tensor of a safetensors file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """From the start of the file."""
    num_bytes: int

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorPlace]:
    """Return the tensors of one file by name.

    Raises:
        CorruptBlob: not a safetensors file, or shorter than its header says.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        found = {
            name: TensorPlace(
                file=path,
                dtype=str(item["dtype"]),
                shape=tuple(int(n) for n in item["shape"]),
                offset=8 + length + int(item["data_offsets"][0]),
                num_bytes=int(item["data_offsets"][1]) - int(item["data_offsets"][0]),
            )
            for name, item in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptBlob(f"{path.name} is not a safetensors file: {error}", hint="fetch it again") from error
    end = max((t.offset + t.num_bytes for t in found.values()), default=8 + length)
    if end > size:
        raise CorruptBlob(f"{path.name} has {size} bytes and needs {end}; it was cut short", hint="fetch it again")
    return found


def read_headers(folder: Path) -> dict[str, TensorPlace]:
    """Return the tensors of every safetensors file of a folder."""
    found: dict[str, TensorPlace] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update(read_header(path))
    return found
