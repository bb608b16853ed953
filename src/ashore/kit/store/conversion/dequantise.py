"""A quantised GGUF file to an F16 one, once, so that every engine starts from the same plain weights.

Rank-1 tensors (norms, biases) become F32, as every converter writes them. Needs memory for one matrix at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashore.kit.store.conversion.ggufmeta import gguf_reader
from ashore.kit.store.conversion.ggufwriting import Outgoing, write_tensors
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.progress import Progress, silent

if TYPE_CHECKING:
    import numpy.typing as npt

_NOT_COPIED = ("general.architecture", "general.file_type", "general.quantization_version")
_FILE_TYPE_F16 = 1
"""`general.file_type` of "mostly F16". Source: GGUF specification, general.file_type."""


def dequantise(source: Path, target: Path, *, progress: Progress = silent) -> dict[str, str]:
    """Write `source` with every weight as F16 to `target`; return how that was done. Equal input gives equal bytes."""
    import gguf

    with disk_errors(target), gguf_reader(source) as reader:
        architecture = reader.fields["general.architecture"].contents()
        writer = gguf.GGUFWriter(target, architecture)
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name in _NOT_COPIED:
                continue
            kind = field.types[0]
            sub_type = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type=sub_type)
        writer.add_file_type(_FILE_TYPE_F16)
        write_tensors(writer, [_plain(t) for t in reader.tensors], what="dequantise to F16", progress=progress)
    return {"dequantised_from": source.name, "precision": "fp16", "tool": f"gguf {_gguf_version()}"}


def _plain(tensor: Any) -> Outgoing:
    """Return a tensor in F16, or in F32 where it has one dimension."""
    shape = tuple(int(n) for n in reversed(tensor.shape))
    kind, item = ("F16", "<f2") if len(shape) > 1 else ("F32", "<f4")

    def pieces() -> Iterator[npt.NDArray[Any]]:
        import gguf

        for part in tensor.data if len(shape) > 2 else (tensor.data,):
            yield gguf.quants.dequantize(part, tensor.tensor_type).astype(item)

    return Outgoing(name=tensor.name, shape=shape, kind=kind, pieces=pieces)


def _gguf_version() -> str:
    from importlib.metadata import version

    return version("gguf")
