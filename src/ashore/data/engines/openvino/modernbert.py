"""Encoders of the ModernBERT family: rotary positions, layers that see a window, gated feed-forward layers.

Source: transformers, model type `modernbert`; Warner et al., "Smarter, Better, Faster, Longer", 2024.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec
import numpy as np

from ashore.core.errors import UnsupportedModel
from ashore.data.engines.openvino.encodergraph import FAR_BELOW, Drawing


class _Rope(msgspec.Struct, frozen=True):
    rope_theta: float = 10_000.0


class ModernBertConfig(msgspec.Struct, frozen=True):
    """The part of `config.json` that shapes the graph; transformers 5 writes layers and rotary bases out."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    max_position_embeddings: int
    norm_eps: float = 1e-5
    hidden_activation: str = "gelu"
    classifier_activation: str = "gelu"
    classifier_pooling: Literal["cls", "mean"] = "cls"
    local_attention: int = 128
    global_attn_every_n_layers: int = 3
    global_rope_theta: float = 160_000.0
    local_rope_theta: float | None = 10_000.0
    layer_types: tuple[str, ...] | None = None
    rope_parameters: dict[str, _Rope] | None = None
    architectures: tuple[str, ...] = ()
    id2label: dict[str, str] | None = None

    @property
    def most_tokens(self) -> int:
        """Longest text."""
        return self.max_position_embeddings

    @property
    def ranks(self) -> bool:
        """Whether it has the head of a cross-encoder."""
        return any(name.endswith("ForSequenceClassification") for name in self.architectures)

    def is_local(self, layer: int) -> bool:
        """Return whether a layer sees a window of `local_attention` tokens, half of it to each side."""
        if self.layer_types is not None:
            return self.layer_types[layer] == "sliding_attention"
        return layer % self.global_attn_every_n_layers != 0

    def rope_theta(self, *, local: bool) -> float:
        """Return the base of the rotary angles."""
        if self.rope_parameters is not None:
            return self.rope_parameters["sliding_attention" if local else "full_attention"].rope_theta
        return self.local_rope_theta or self.global_rope_theta if local else self.global_rope_theta


def build_modernbert(config: ModernBertConfig, draw: Drawing) -> Any:
    """Return the states of all tokens, [B, T, H]. Token types are ignored.

    Raises:
        UnsupportedModel: a tensor is missing, or an activation is not supported.
    """
    if {config.hidden_activation, config.classifier_activation} != {"gelu"}:
        raise UnsupportedModel(f"the activation {config.hidden_activation!r} is not supported; expected 'gelu'")
    op, ints, linear = draw.op, draw.ints, draw.linear
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    norm = partial(_norm, config, draw)
    places_T = draw.places()
    whole = draw.unseen()
    apart = op.abs(op.subtract(op.unsqueeze(places_T, ints(1)), op.unsqueeze(places_T, ints(0))))
    beyond = op.convert(op.greater(apart, draw.real(config.local_attention // 2)), np.float32)
    near = op.add(whole, op.multiply(op.unsqueeze(beyond, ints(0, 1)), draw.real(FAR_BELOW)))
    turns = {local: draw.angles(config.rope_theta(local=local), size) for local in (False, True)}

    x = norm(draw.embedded(draw.ids_BT, "embeddings.tok_embeddings.weight"), "embeddings.norm")
    for layer in range(config.num_hidden_layers):
        at, local = f"layers.{layer}.", config.is_local(layer)
        read = norm(x, at + "attn_norm") if layer else x
        joined = op.reshape(linear(read, at + "attn.Wqkv"), ints(0, 0, 3, heads, size), True)
        parts = op.split(op.transpose(joined, ints(2, 0, 3, 1, 4)), draw.whole(0), 3).outputs()
        query, key, value = (op.squeeze(part, ints(0)) for part in parts)
        query, key = draw.turned(query, *turns[local]), draw.turned(key, *turns[local])
        seen = draw.attended(query, key, value, near if local else whole, heads=heads, size=size)
        x = op.add(x, linear(seen, at + "attn.Wo"))
        wide, gate = op.split(linear(norm(x, at + "mlp_norm"), at + "mlp.Wi"), draw.whole(-1), 2).outputs()
        x = op.add(x, linear(op.multiply(op.gelu(wide, "erf"), gate), at + "mlp.Wo"))
    return norm(x, "final_norm")


def modernbert_logit(config: ModernBertConfig, draw: Drawing, x: Any) -> Any:
    """Return the one logit of each pair, [B, 1], of states [B, T, H]."""
    pooled = draw.first_state(x) if config.classifier_pooling == "cls" else draw.mean_state(x)
    wide = draw.op.gelu(draw.linear(pooled, "head.dense"), "erf")
    return draw.linear(_norm(config, draw, wide, "head.norm"), "classifier")


def _norm(config: ModernBertConfig, draw: Drawing, x: Any, name: str) -> Any:
    scaled = draw.op.multiply(draw.normed(x, config.norm_eps), draw.weight(name + ".weight"))
    return draw.op.add(scaled, draw.weight(name + ".bias")) if name + ".bias" in draw.tensors else scaled
