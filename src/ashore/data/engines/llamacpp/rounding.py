"""Quantizes GGUF or safetensors to a smaller GGUF: llama.cpp's own arithmetic, tensor by tensor, weighted by the inputs
that the model gets from the calibration text.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import DiskFull, EngineFailed, UnsupportedModel
from ashore.data.engines.llamacpp.importance import read_importance
from ashore.data.engines.llamacpp.library import LlamaLibrary, load_library
from ashore.data.engines.rounding import Rounded, RoundOrder, Told, quietly
from ashore.kit.store import (
    TEXT_FILES,
    Outgoing,
    Packing,
    convert_safetensors_to_gguf,
    gguf_reader,
    read_gguf_meta,
    write_tensors,
)

WEIGHTS: Final = "model.gguf"
_WIDE: Final = ("F32", "F16", "BF16")


def prepare_gguf(source: Path, weights: str, order: RoundOrder, out: Path, *, told: Told = quietly) -> Rounded:
    """Write the GGUF of `source / weights` in one of `MIXES` to `out`. A `Rounder`.

    Matrices in F32, F16 or BF16 are rounded; vectors, routers, rows that do not divide into blocks, and smaller formats
    are copied. `out` must exist; files of an earlier attempt in it are overwritten.

    Raises:
        UnsupportedModel: the weights are neither one GGUF file nor safetensors.
        EngineFailed: llama.cpp failed.
        DiskFull: no room.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=out) as scratch:
            importance: dict[str, NDArray[np.float32]] = {}
            packing = _packing(order.precision, importance)
            plain = source / weights
            if not weights.endswith(".gguf"):
                _check_safetensors(weights)
                target = Path(scratch) / "plain.gguf" if order.samples else out / WEIGHTS
                part = 0.3 if order.samples else 0.9
                convert_safetensors_to_gguf(
                    source,
                    target,
                    packing=None if order.samples else packing,
                    progress=lambda _, done, total: told("convert", part * done / total),
                )
                plain = target
            if order.samples:
                importance |= read_importance(
                    plain, order.samples, told=lambda _, share: told("read", 0.3 + 0.2 * share)
                )
            if order.samples or weights.endswith(".gguf"):
                _round_file(plain, packing, out / WEIGHTS, told)
        for name in TEXT_FILES:  # so that the folder is self-contained
            if (source / name).is_file():
                shutil.copyfile(source / name, out / name)
    except OSError as error:
        raise DiskFull(f"{out}: {error.strerror or error}", hint="free some space there") from error
    told("done", 1.0)
    counts = Counter(tensor.type_name for tensor in read_gguf_meta(out / WEIGHTS).tensors)
    facts = {
        "precision": order.precision,
        "tensors": ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())),
        "weighed_by": "importance matrix" if importance else "nothing",
    }
    return Rounded(format="gguf", weights=WEIGHTS, facts=facts, packages=("gguf", "numpy", "xllamacpp"))


def _check_safetensors(weights: str) -> None:
    if not weights.endswith((".safetensors", ".safetensors.index.json")):
        raise UnsupportedModel(
            f"{weights} is neither GGUF nor safetensors, so it cannot be quantized to GGUF",
            hint="name the original model, without a variant",
        )


def _packing(mix: str, importance: Mapping[str, NDArray[np.float32]]) -> Packing:
    """Return how tensors are rounded to `mix`, weighted by the inputs that `importance` has by then."""
    import gguf

    library = load_library()
    return Packing(
        file_type=int(getattr(gguf.LlamaFileType, f"MOSTLY_{mix.upper()}")),
        kind_of=lambda name, row_length, num_blocks, tied: kind_of(
            mix, name, row_length=row_length, num_blocks=num_blocks, tied=tied
        ),
        pack=lambda name, wide, kind: round_rows(library, wide, cast(Kind, kind), importance.get(name)),
    )


def _round_file(plain: Path, packing: Packing, target: Path, told: Told) -> None:
    """Write a GGUF file again with its wide matrices rounded."""
    import gguf

    with gguf_reader(plain) as reader:
        architecture = reader.fields["general.architecture"].contents()
        tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
        blocks = reader.fields.get(f"{architecture}.block_count")
        num_blocks = int(blocks.contents()) if blocks is not None else 0
        writer = gguf.GGUFWriter(target, architecture)
        for field in reader.fields.values():
            _copy_field(writer, field)
        writer.add_file_type(packing.file_type)
        outgoing = [_rounded(tensor, packing, num_blocks, tied=tied) for tensor in reader.tensors]
        write_tensors(
            writer, outgoing, what="round", progress=lambda _, done, total: told("round", 0.5 + 0.45 * done / total)
        )


def _rounded(tensor: Any, packing: Packing, num_blocks: int, *, tied: bool) -> Outgoing:
    shape = tuple(int(number) for number in reversed(tensor.shape))
    wide = tensor.tensor_type.name in _WIDE and len(shape) > 1
    kind = packing.kind_of(tensor.name, shape[-1], num_blocks, tied) if wide else None

    def pieces() -> Iterator[NDArray[Any]]:
        import gguf

        for part in tensor.data if len(shape) > 2 else (tensor.data,):
            if kind is None:
                yield part
            else:
                yield packing.pack(tensor.name, gguf.quants.dequantize(part, tensor.tensor_type), kind)

    return Outgoing(name=tensor.name, shape=shape, kind=kind or tensor.tensor_type.name, pieces=pieces)


def round_rows(
    library: LlamaLibrary, wide: NDArray[np.float32], kind: Kind, importance_K: NDArray[np.float32] | None
) -> NDArray[np.uint8]:
    """Return the rows of `wide` [..., K] packed by llama.cpp.

    Args:
        library: The library that packs.
        wide: Numbers in single precision.
        kind: The format; its blocks divide K.
        importance_K: Strength of the input of each column; None: all equal.
    """
    import gguf

    form = gguf.GGMLQuantizationType[kind]
    row_bytes = int(gguf.quants.quant_shape_to_byte_shape(wide.shape, form)[-1])
    packed = np.empty((*wide.shape[:-1], row_bytes), np.uint8)
    source = np.ascontiguousarray(wide, np.float32)
    num_rows = source.size // source.shape[-1]
    weighed = None if importance_K is None else np.ascontiguousarray(importance_K, np.float32)
    written = library.ggml_quantize_chunk(
        int(form),
        source.ctypes.data,
        packed.ctypes.data,
        0,
        num_rows,
        source.shape[-1],
        ctypes.c_void_p(None if weighed is None else weighed.ctypes.data),
    )
    if written != packed.nbytes:
        raise EngineFailed(f"llama.cpp packed {written} bytes of {kind}, {packed.nbytes} are expected")
    return packed


_WRITTEN_ELSEWHERE: Final = ("GGUF.", "general.architecture", "general.file_type")
"""Fields of the file's head, and those that the writer sets itself."""


def _copy_field(writer: Any, field: Any) -> None:
    """Copy one metadata field with its types."""
    name, types = field.name, field.types
    if name.startswith(_WRITTEN_ELSEWHERE):
        return
    sub_type = types[-1] if types[0].name == "ARRAY" else None
    writer.add_key_value(name, field.contents(), types[0], sub_type=sub_type)


Kind = Literal["Q4_0", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]

MIXES: Final[dict[str, tuple[Kind, bool]]] = {
    "q8_0": ("Q8_0", False),
    "q6_k": ("Q6_K", False),
    "q5_k_m": ("Q5_K", True),
    "q4_k_m": ("Q4_K", True),
    "q4_0": ("Q4_0", False),
}
"""By name: format of most tensors, and whether some get more bits."""

BLOCK: Final[dict[Kind, int]] = {
    "Q4_0": 32, "Q5_0": 32, "Q5_1": 32, "Q8_0": 32, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256,
}  # fmt: skip
"""Weights of a row that are packed together."""

_INSTEAD: Final[dict[Kind, Kind]] = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_NUMBER: Final = re.compile(r"blk\.(\d+)\.")


def kind_of(mix: str, tensor: str, *, row_length: int, num_blocks: int, tied: bool) -> Kind | None:
    """Return the format of a matrix; None if it is not rounded.

    Args:
        mix: One of `MIXES`.
        tensor: Its name in the file.
        row_length: Numbers in a row.
        num_blocks: Transformer blocks of the model.
        tied: True if the embeddings are also the output head.
    """
    if not tensor.endswith(".weight") or "ffn_gate_inp" in tensor:
        return None  # a router is tiny, and decides everything
    most, mixed = MIXES[mix]
    kind: Kind = most
    if tensor == "output.weight" or (tied and tensor == "token_embd.weight"):
        kind = "Q8_0" if most == "Q8_0" else "Q6_K"
    elif mixed and any(part in tensor for part in ("attn_v.", "ffn_down")) and _matters(tensor, num_blocks):
        kind = "Q6_K"
    if row_length % BLOCK[kind]:
        kind = _INSTEAD.get(kind, kind)
    return kind if row_length % BLOCK[kind] == 0 else None


def _matters(tensor: str, num_blocks: int) -> bool:
    """Return whether a block gets more bits: the first eighth, the last, every third between."""
    found = _NUMBER.search(tensor)
    if found is None:
        return False
    number, eighth = int(found[1]), num_blocks // 8
    return number < eighth or number >= 7 * num_blocks // 8 or (number - eighth) % 3 == 2
