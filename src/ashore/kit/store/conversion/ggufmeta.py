"""Metadata of a GGUF file."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.shapes import ModelShape
from ashore.kit.store.conversion.checkedshape import checked_shape

MAX_ENTRIES = 1 << 22
"""Most entries of all lists together. The largest vocabularies have 1.3 million: tokens, their scores and types, and
merges."""
MAX_FIELDS = 4_096
MAX_TENSORS = 1 << 16
PRECISIONS = {
    "F32": "fp32", "F16": "fp16", "BF16": "bf16", "Q8_0": "q8_0", "Q4_0": "q4_0", "Q4_1": "q4_1", "Q4_K": "q4_k",
    "Q5_K": "q5_k", "Q6_K": "q6_k",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor of a GGUF file."""

    name: str
    type_name: str
    num_elements: int


@dataclass(frozen=True, slots=True)
class GgufMeta:
    """The key-value part of a GGUF file, read once, and its list of tensors."""

    values: dict[str, Any]
    tensors: tuple[TensorInfo, ...]

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    def own(self, key: str, default: Any = None) -> Any:
        """Return a value under the architecture's own prefix: `own("block_count")`."""
        return self.values.get(f"{self.architecture}.{key}", default)


def read_gguf_meta(path: Path) -> GgufMeta:
    """Return the metadata in the file's header. Reads no weights.

    Raises:
        CorruptBlob: not a GGUF file, or cut short.
    """
    with gguf_reader(path) as reader:
        values: dict[str, Any] = {}
        for name, field in reader.fields.items():
            values[name] = field.contents()
        tensors = tuple(
            TensorInfo(name=t.name, type_name=t.tensor_type.name, num_elements=int(t.n_elements))
            for t in reader.tensors
        )
    return GgufMeta(values=values, tensors=tensors)


@contextlib.contextmanager
def gguf_reader(path: Path) -> Iterator[Any]:
    """Yield an open `gguf.GGUFReader`, with its errors translated."""
    with foreign_errors(f"{path.name} is not a complete GGUF file"):
        yield _bounded_reader()(path)


@functools.cache
def _bounded_reader() -> Any:
    """Return the library's reader, limited to the file's size: by itself it reads past the end if a count says so, and
    takes 1.6 KB and 30 µs for each entry of a list.
    """
    import gguf
    import numpy as np

    class BoundedReader(gguf.GGUFReader):  # type: ignore[misc]
        _entries = 0

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            if int(count) * np.dtype(dtype).itemsize > len(self.data) - int(offset):
                raise ValueError(f"it ends before byte {int(offset)} + {int(count)}")
            return super()._get(int(offset), dtype, int(count), override_order)

        def _build_fields(self, offs: int, count: int) -> Any:
            _check_count(count, MAX_FIELDS, "fields")
            return super()._build_fields(offs, count)

        def _build_tensor_info(self, offs: int, count: int) -> Any:
            _check_count(count, MAX_TENSORS, "tensors")
            return super()._build_tensor_info(offs, count)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if int(raw_type) != gguf.GGUFValueType.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            kind = gguf.GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
            many, start = int(self._get(orig_offs + 4, np.uint64)[0]), int(orig_offs) + 12
            self._entries += many
            _check_count(self._entries, MAX_ENTRIES, "entries in lists")
            if (number := self.gguf_scalar_to_np.get(kind)) is not None:
                numbers = self._get(start, number, many)
                return 12 + int(numbers.nbytes), [numbers], [0], [gguf.GGUFValueType.ARRAY, kind]
            if kind != gguf.GGUFValueType.STRING:
                raise ValueError(f"it has a list of {kind.name}, which no model needs")
            order: Literal["little", "big"] = "little" if self.endianess == gguf.GGUFEndian.LITTLE else "big"
            texts, at = [], start
            for _ in range(many):
                begin, end = at + 8, at + 8 + int.from_bytes(self._view[at : at + 8], order)
                if end > len(self._view):
                    raise ValueError(f"it ends before byte {end}")
                texts.append(self._view[begin:end])
                at = end
            return at - int(orig_offs), texts, range(many), [gguf.GGUFValueType.ARRAY, kind]

        @functools.cached_property
        def _view(self) -> memoryview:
            return memoryview(self.data)

    return BoundedReader


def _check_count(count: int, most: int, what: str) -> None:
    if count > most:
        raise ValueError(f"it has {count} {what}; expected at most {most}")


def shape_of_gguf(meta: GgufMeta) -> ModelShape:
    """Return the shape of the decoder in a GGUF file.

    Raises:
        UnsupportedModel: the file lacks a number that every decoder has.
    """
    what = f"the GGUF file says architecture {meta.architecture[:40]!r} and lacks a dimension that every decoder has"
    with foreign_errors(what, UnsupportedModel, hint="expected a decoder such as llama, qwen2, qwen3 or deepseek2"):
        hidden = int(meta.own("embedding_length"))
        heads = _first(meta.own("attention.head_count"))
        latent = int(meta.own("attention.kv_lora_rank", 0))
        rope = int(meta.own("rope.dimension_count", 0))
        total = sum(t.num_elements for t in meta.tensors)
        experts, chosen = int(meta.own("expert_count", 0)), int(meta.own("expert_used_count", 0))
        if experts and not 0 < chosen <= experts:  # llama.cpp would end its process at the load
            raise ValueError(f"a token gets {chosen} of {experts} experts")
        return checked_shape(
            {
                "architecture": meta.architecture,
                "num_layers": int(meta.own("block_count")),
                "hidden_size": hidden,
                "num_heads": heads,
                "num_kv_heads": _first(meta.own("attention.head_count_kv", heads)),
                "head_dim": int(meta.own("attention.key_length", hidden // heads)),
                "vocab_size": int(meta.own("vocab_size", 0)) or len(meta.values.get("tokenizer.ggml.tokens", ())),
                "context_tokens": int(meta.own("context_length")),
                "num_parameters": total,
                "num_active_parameters": _active(meta, total),
                "latent_rank": latent + rope if latent else 0,
            },
            what="the GGUF file",
        )


def precision_of(meta: GgufMeta) -> str:
    """Return the type that most weights have: `fp16`, `q8_0`, `q4_k`…"""
    counts: dict[str, int] = {}
    for tensor in meta.tensors:
        counts[tensor.type_name] = counts.get(tensor.type_name, 0) + tensor.num_elements
    top = max(counts, key=lambda name: counts[name]) if counts else "F16"
    return PRECISIONS.get(top, top.lower())


def _first(value: Any) -> int:
    """Return the number, or the largest where layers differ."""
    return max(int(v) for v in value) if isinstance(value, list) else int(value)


def _active(meta: GgufMeta, total: int) -> int:
    experts = int(meta.own("expert_count", 0))
    if not experts:
        return 0
    routed = sum(t.num_elements for t in meta.tensors if "_exps." in t.name)
    return total - routed + routed * int(meta.own("expert_used_count", 0)) // experts
