"""The header of a safetensors file, read without any library: what tensors it has, of what type and where.

Source: safetensors format, README of the project (8 bytes length, JSON header, data).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ashore.core.errors import CorruptBlob
from ashore.core.foreign import foreign_errors

INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 1 << 18
"""Most tensors of one file; DeepSeek-V3 has 92,000 in all of its files."""
MAX_TENSOR = 1 << 50
"""Largest side, or offset in bytes, of a tensor."""
MAX_DIMENSIONS = 16
FP8_SCALES = "_scale_inv"
"""How the names of the scales of FP8 weights end. Source: README_WEIGHTS of DeepSeek-V3."""
FP8_BLOCK = 128
_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlace:
    """One tensor of a safetensors file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """From the start of the file."""
    num_bytes: int
    scales: TensorPlace | None = None
    """Of FP8 weights: a factor for each square of `FP8_BLOCK` rows and columns."""

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorPlace]:
    """Return the tensors of one file by name.

    Raises:
        CorruptBlob: not a safetensors file, or shorter than its header says.
    """
    size = path.stat().st_size
    with foreign_errors(f"{path.name} is not a safetensors file"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"header of {length} bytes in a file of {size}")
            header = _header.decode(file.read(length))
        if len(header) > MAX_TENSORS:
            raise ValueError(f"it has {len(header)} tensors; expected at most {MAX_TENSORS}")
        found = {
            name: _place(path, name, _item.decode(raw), 8 + length)
            for name, raw in header.items()
            if name != "__metadata__"
        }
        end = 8 + length
        for name, place in sorted(found.items(), key=lambda item: (item[1].offset, item[1].num_bytes)):
            if place.offset < end:
                raise ValueError(f"the tensor {name[:80]!r} overlaps another one")
            end = place.offset + place.num_bytes
    if end > size:
        raise CorruptBlob(f"{path.name} has {size} bytes, expected {end}; it is truncated", hint="fetch it again")
    return found


class _Item(msgspec.Struct):
    """A tensor as a header tells it."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_header = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Makes no value of what lies under a name: 100 MB of empty lists would take gigabytes."""
_item = msgspec.json.Decoder(_Item)


def _place(path: Path, name: str, item: _Item, start: int) -> TensorPlace:
    shape, (begin, end) = item.shape, item.data_offsets
    if any(not 0 <= n <= MAX_TENSOR for n in (*shape, begin, end)) or end < begin:
        raise ValueError(f"the tensor {name[:80]!r} has an impossible shape or position")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"the tensor {name[:80]!r} has {len(shape)} dimensions")
    place = TensorPlace(file=path, dtype=item.dtype, shape=shape, offset=start + begin, num_bytes=end - begin)
    if place.num_elements * _ITEM_BYTES.get(place.dtype, 0) not in (0, place.num_bytes):
        raise ValueError(f"the tensor {name[:80]!r} has {place.num_bytes} bytes for {place.num_elements} numbers")
    return place


def check_shards(index: bytes, paths: Collection[str]) -> None:
    """Raise `CorruptBlob` if the index of a model in several files names one that the model does not have.

    Libraries follow these names as paths, wherever they lead.

    Args:
        index: Content of `model.safetensors.index.json`.
        paths: The model's files.
    """
    with foreign_errors(f"{INDEX} cannot be read"):
        named = set(json.loads(index)["weight_map"].values())
        others = sorted(ascii(name)[:90] for name in named if name not in paths)
    if others:
        raise CorruptBlob(
            f"{INDEX} names {others[0]}, which is not one of the model's files",
            hint="do not use it: it is malicious or damaged",
        )


def read_headers(folder: Path) -> dict[str, TensorPlace]:
    """Return the tensors of every safetensors file of a folder."""
    found: dict[str, TensorPlace] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update(read_header(path))
    return found


def with_scales(places: Mapping[str, TensorPlace]) -> dict[str, TensorPlace]:
    """Return the tensors of a model, those in FP8 with their scales, which are no tensors of their own then."""
    return {
        name: replace(place, scales=places.get(name + FP8_SCALES))
        for name, place in places.items()
        if not name.endswith(FP8_SCALES)
    }


def num_parameters(places: Mapping[str, TensorPlace], *, bits: int = 4) -> int:
    """Return the number of parameters in the tensors. Of packed weights (MXFP4, GPTQ, AWQ) the packed ones count.

    Args:
        places: As `read_headers` gives them.
        bits: Bits of one number of packed weights in whole numbers of 32 bits.
    """
    packed = {"U8": 2, "I32": 32 // max(1, bits)}
    scales = ("_scales", ".scales", ".g_idx", ".qzeros", FP8_SCALES)
    return sum(
        place.num_elements * packed.get(place.dtype, 1) for name, place in places.items() if not name.endswith(scales)
    )
