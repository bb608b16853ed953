"""What a model looks like from outside: enough to say which engine takes it and how much memory it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ashore.errors import UnsupportedModel

ENCODERS: Final = frozenset({"bert", "xlm-roberta"})
"""Architectures that read texts and write none."""
Attention = Literal["grouped", "latent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Shape of a decoder, or of an encoder (`is_encoder`)."""

    architecture: str
    """llama, qwen2, qwen3, deepseek2 (V2, V3, R1, V3.1), deepseek32, deepseek4, bert, xlm-roberta."""
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_tokens: int
    num_parameters: int
    num_active_parameters: int = 0
    """Parameters that one token touches; 0 where all of them are (dense models)."""
    latent_rank: int = 0
    """`kv_lora_rank` plus the rotary dimensions of latent attention; 0 with grouped attention."""

    @property
    def is_encoder(self) -> bool:
        return self.architecture in ENCODERS

    @property
    def attention(self) -> Attention:
        return "latent" if self.latent_rank else "grouped"


def kv_bytes_per_token(shape: ModelShape, *, itemsize: int, tensor_parallel: int = 1) -> int:
    """Return the bytes of KV cache that one token costs on one device.

    Keys and values are both kept in every layer. With fewer KV heads than devices each device keeps a copy of one
    head, so the figure stops shrinking there. Latent attention (DeepSeek V2/V3) keeps one compressed row instead.

    Args:
        shape: Shape of the model; `head_dim` is per attention head.
        itemsize: Bytes per cache element (2 for FP16, 1 for FP8 and u8), not that of the weights.
        tensor_parallel: Devices that share one layer, at least 1.

    Returns:
        Bytes per token per device. Multiply by the tokens held at once.

    Raises:
        UnsupportedModel: the shape has neither heads nor a latent rank.

    Source: DeepSeek-V2 paper, section 2.1 (latent row = kv_lora_rank + rope dims); keys and values of
        `num_kv_heads * head_dim` each otherwise (Llama 2 paper, section 2.2, grouped-query attention).
    """
    if shape.latent_rank:
        return shape.num_layers * shape.latent_rank * itemsize
    if shape.num_kv_heads <= 0 or shape.head_dim <= 0:
        raise UnsupportedModel(
            f"{shape.architecture} has num_kv_heads={shape.num_kv_heads} and head_dim={shape.head_dim}; "
            "expected positive numbers"
        )
    heads_here = max(1, shape.num_kv_heads // tensor_parallel)
    return 2 * shape.num_layers * heads_here * shape.head_dim * itemsize
