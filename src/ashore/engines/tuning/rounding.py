"""GGUF in half or full precision to Q8_0, which llama.cpp runs faster: on numpy, without llama.cpp's own tool."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ashore.errors import DiskFull, UnsupportedModel
from ashore.store import TEXT_FILES

WEIGHTS = "model.gguf"

Q8_BLOCK = 32
"""Weights that share one scale; rows of another length stay as they are. Source: `block_q8_0` of ggml."""


def prepare_q8_0(
    store_dir: Path, weights: str, out: Path, *, progress: Callable[[str, float], None] | None = None
) -> dict[str, str]:
    """Make the Q8_0 form of the GGUF `store_dir / weights` in `out` and return the recipe for the store.

    Matrices in F32, F16 or BF16 are rounded to eight bits with a scale for each 32 weights of a row; vectors, and what
    is smaller already, are copied. `out` must exist; files of an earlier attempt in it are written over.

    Raises:
        UnsupportedModel: the weights are not one GGUF file.
        DiskFull: no room.
    """
    if not weights.endswith(".gguf"):
        raise UnsupportedModel(f"{weights} is not GGUF, so it cannot be rounded to q8_0", hint="pull a GGUF of it")
    import gguf

    told = progress or _no_progress
    reader = gguf.GGUFReader(store_dir / weights)
    wide = {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16}
    q8 = gguf.GGMLQuantizationType.Q8_0
    rounded = 0
    try:
        writer = gguf.GGUFWriter(out / WEIGHTS, reader.fields["general.architecture"].contents())
        for field in reader.fields.values():
            _copy_field(writer, field)
        writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q8_0))
        total = len(reader.tensors)
        for number, tensor in enumerate(reader.tensors):
            told("round", number / total)
            data, kind = tensor.data, tensor.tensor_type
            if kind in wide and len(tensor.shape) > 1 and tensor.shape[0] % Q8_BLOCK == 0:
                data, kind = gguf.quants.quantize(gguf.quants.dequantize(data, kind), q8), q8
                rounded += 1
            writer.add_tensor(tensor.name, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        for name in TEXT_FILES:  # so that the folder stands alone
            if (store_dir / name).is_file():
                shutil.copyfile(store_dir / name, out / name)
    except OSError as error:
        raise DiskFull(f"{out}: {error.strerror or error}", hint="free space there") from error
    told("done", 1.0)
    return {"tool": "ashore on gguf and numpy", "precision": "q8_0", "rounded_tensors": str(rounded)}


_WRITTEN_ELSEWHERE = ("GGUF.", "general.architecture", "general.file_type")
"""Fields of the file's head, and those that the writer sets itself."""


def _copy_field(writer: Any, field: Any) -> None:
    """Copy one metadata field with its types."""
    name, types = field.name, field.types
    if name.startswith(_WRITTEN_ELSEWHERE):
        return
    sub_type = types[-1] if types[0].name == "ARRAY" else None
    writer.add_key_value(name, field.contents(), types[0], sub_type=sub_type)


def _no_progress(stage: str, share: float) -> None:
    """For callers that do not show any."""
