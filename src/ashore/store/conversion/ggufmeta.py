"""What a GGUF file says about its model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ashore.core import ModelShape
from ashore.errors import CorruptBlob, UnsupportedModel

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
    """Return what the file's header tells. Reads no weights.

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
    """Give an open `gguf.GGUFReader`, its complaints translated."""
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, OverflowError, KeyError) as error:
        raise CorruptBlob(f"{path.name} is not a whole GGUF file: {error}", hint="fetch it again") from error
    try:
        yield reader
    finally:
        del reader


def shape_of_gguf(meta: GgufMeta) -> ModelShape:
    """Return the shape of the decoder in a GGUF file.

    Raises:
        UnsupportedModel: the file lacks a number that every decoder has.
    """
    try:
        hidden = int(meta.own("embedding_length"))
        heads = _first(meta.own("attention.head_count"))
        latent = int(meta.own("attention.kv_lora_rank", 0))
        rope = int(meta.own("rope.dimension_count", 0))
        total = sum(t.num_elements for t in meta.tensors)
        return ModelShape(
            architecture=meta.architecture,
            num_layers=int(meta.own("block_count")),
            hidden_size=hidden,
            num_heads=heads,
            num_kv_heads=_first(meta.own("attention.head_count_kv", heads)),
            head_dim=int(meta.own("attention.key_length", hidden // heads)),
            vocab_size=int(meta.own("vocab_size", 0)) or len(meta.values.get("tokenizer.ggml.tokens", ())),
            context_tokens=int(meta.own("context_length")),
            num_parameters=total,
            num_active_parameters=_active(meta, total),
            latent_rank=latent + rope if latent else 0,
        )
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UnsupportedModel(
            f"the GGUF file says architecture {meta.architecture!r} and lacks a number every decoder has ({error})",
            hint="expected a decoder such as llama, qwen2, qwen3 or deepseek2",
        ) from error


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
