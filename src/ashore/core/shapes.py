"""Shape of a model: enough to choose an engine and estimate memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from ashore.core.errors import UnsupportedModel

DECODERS_THAT_EMBED: Final[Mapping[str, str]] = {"qwen2-embedder": "qwen2", "qwen3-embedder": "qwen3"}
"""Architectures of decoders whose last states are the result, by the one that their config.json names."""
ENCODERS: Final = frozenset({"bert", "modernbert", "roberta", "xlm-roberta", *DECODERS_THAT_EMBED})
"""Architectures that read texts and write none."""
HEAD: Final = "head"
"""Architecture of small models on features, without layers: `data/engines/tabular`."""
Attention = Literal["grouped", "latent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Shape of a decoder, or of an encoder (`is_encoder`)."""

    architecture: str
    """llama, qwen2, qwen3, deepseek2 (V2, V3, R1, V3.1), deepseek32, deepseek4, or one of `ENCODERS`."""
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
    ffn_size: int = 0
    """Width of a dense feed-forward layer; 0: not known."""
    num_experts: int = 0
    """Routed experts of a layer; 0: dense."""
    experts_per_token: int = 0
    expert_size: int = 0
    """Width of one routed expert."""
    shared_size: int = 0
    """Width of all shared experts of a layer together."""
    dense_layers: int = 0
    """Layers of a mixture of experts that have none."""
    query_rank: int = 0
    """`q_lora_rank` of latent attention; 0: queries are not compressed."""
    index_dim: int = 0
    """Numbers a token that each layer keeps to choose what it attends to (DeepSeek V3.2, V4); 0: it attends to all."""
    window_tokens: int = 0
    """Tokens that a layer with a sliding window looks back; 0: no layer has one."""
    window_layers: int = 0
    """Layers that keep `window_tokens` tokens, however long the sequence is."""
    linear_layers: int = 0
    """Layers with linear attention: they keep `linear_state` numbers for each sequence, and nothing for each token."""
    linear_state: int = 0
    light_layers: int = 0
    """DeepSeek V4: layers that keep one row for every four tokens (CSA)."""
    heavy_layers: int = 0
    """DeepSeek V4: layers that keep one row for every 128 tokens (HCA)."""

    @property
    def is_encoder(self) -> bool:
        return self.architecture in ENCODERS

    @property
    def attention(self) -> Attention:
        return "latent" if self.latent_rank else "grouped"


LIGHT_RATIO: Final = 4
HEAVY_RATIO: Final = 128
"""Tokens that share one row in the two kinds of compressed layers of DeepSeek V4 (`compress_ratios` of config.json)."""


def kv_bytes(shape: ModelShape, *, tokens: int, itemsize: int, tensor_parallel: int = 1) -> int:
    """Return the bytes of KV cache of one sequence of so many tokens on one device.

    Layers differ: those with a sliding window keep no more than the window, those with linear attention keep a state of
    constant size, and DeepSeek V4 keeps one row for 4 or for 128 tokens beside a window. All others keep keys and
    values of every token. With fewer KV heads than devices each device keeps a copy of one head, so the figure stops
    shrinking there. Latent attention (DeepSeek V2/V3) keeps one compressed row instead, on every device.

    Args:
        shape: Shape of the model; `head_dim` is per attention head.
        tokens: Prompt and answer together, at least 1.
        itemsize: Bytes per cache element (2 for FP16, 1 for FP8 and u8), not that of the weights. The state of linear
            attention is counted at four bytes, as engines keep it.
        tensor_parallel: Devices that share one layer, at least 1.

    Raises:
        UnsupportedModel: the shape has neither heads nor a latent rank.

    Source: DeepSeek-V2 paper, section 2.1 (latent row = kv_lora_rank + rope dims); Llama 2 paper, section 2.2 (grouped
        queries); model card of DeepSeek-V4-Pro (9.62 GiB for 1,048,576 tokens in BF16, which this gives).
    """
    whole = shape.num_layers - shape.window_layers - shape.linear_layers - shape.light_layers - shape.heavy_layers
    seen = min(tokens, shape.window_tokens) if shape.window_tokens else tokens
    if shape.latent_rank:
        row, indexed = shape.latent_rank, shape.index_dim
    else:
        if shape.num_kv_heads <= 0 or shape.head_dim <= 0:
            raise UnsupportedModel(
                f"{shape.architecture} has num_kv_heads={shape.num_kv_heads} and head_dim={shape.head_dim}; "
                "expected positive numbers"
            )
        one_row = shape.light_layers or shape.heavy_layers  # V4 stores keys and values as one row
        row = (1 if one_row else 2) * max(1, shape.num_kv_heads // tensor_parallel) * shape.head_dim
        indexed = shape.index_dim
    kept = whole * tokens * (row + (0 if shape.light_layers else indexed)) + shape.window_layers * seen * row
    if shape.light_layers or shape.heavy_layers:
        kept += shape.light_layers * tokens * (row + indexed) // LIGHT_RATIO
        kept += shape.heavy_layers * tokens * row // HEAVY_RATIO
        kept += (shape.light_layers + shape.heavy_layers) * seen * row if shape.window_tokens else 0
    return kept * itemsize + 4 * shape.linear_layers * shape.linear_state // max(1, tensor_parallel)


def kv_bytes_per_token(shape: ModelShape, *, itemsize: int, tensor_parallel: int = 1, tokens: int = 1) -> int:
    """Return the bytes of KV cache that one token costs on one device, in a sequence of so many tokens.

    Args:
        shape: As in `kv_bytes`.
        itemsize: As in `kv_bytes`.
        tensor_parallel: Devices that share one layer, at least 1.
        tokens: Length of the sequence. With 1, sliding windows save nothing and the state of linear attention is left
            out: right for engines that keep whole blocks in every layer.

    Returns:
        Bytes per token per device, rounded up. Multiply by the tokens held at once.

    Raises:
        UnsupportedModel: the shape has neither heads nor a latent rank.
    """
    if tokens == 1:
        shape = replace(shape, linear_state=0, window_tokens=0)
        tokens = HEAVY_RATIO if shape.light_layers or shape.heavy_layers else 1
    whole = kv_bytes(shape, tokens=tokens, itemsize=itemsize, tensor_parallel=tensor_parallel)
    return -(-whole // tokens)
