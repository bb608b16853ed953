"""Tensors into a GGUF file one piece at a time, so that memory holds one matrix and never the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ashore.kit.store.progress import Progress, silent

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One tensor to be written."""

    name: str
    shape: tuple[int, ...]
    """In numbers, the row's length last."""
    kind: str
    """`F32`, `F16`, `Q8_0`: as the `gguf` package names its formats."""
    pieces: Callable[[], Iterator[npt.NDArray[Any]]]
    """Yields the data, in the bytes of `kind`, in order."""


def write_tensors(writer: Any, tensors: Sequence[Outgoing], *, what: str, progress: Progress = silent) -> None:
    """Write header, settings and `tensors` with a `gguf.GGUFWriter` that has its settings, and close it in any case.

    Args:
        writer: The writer.
        tensors: In the order of the file.
        what: What is done, for `progress`.
        progress: Called with bytes written and all bytes after each piece.
    """
    import gguf
    import numpy as np

    with closing(writer):
        sizes = []
        for one in tensors:
            kind = gguf.GGMLQuantizationType[one.kind]
            sizes.append(_num_bytes(one.shape, kind))
            writer.add_tensor_info(one.name, one.shape, np.dtype(np.float32), sizes[-1], kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        file = writer.fout[0]
        writer.write_padding(file, file.tell())
        done = 0
        for one, size in zip(tensors, sizes, strict=True):
            written = 0
            for data in one.pieces():
                np.ascontiguousarray(data).tofile(file)
                written += data.nbytes
                progress(what, done + written, sum(sizes))
            if written != size:
                raise AssertionError(f"{one.name} has {written} bytes, and {size} are expected")
            writer.write_padding(file, size)
            done += size


def _num_bytes(shape: tuple[int, ...], kind: Any) -> int:
    import gguf

    return math.prod(gguf.quants.quant_shape_to_byte_shape(shape, kind))
