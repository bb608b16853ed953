"""Decoders that make vectors, Qwen 2 and Qwen 3: the last state of each token, which sees the tokens before it alone.

Source: transformers, model types `qwen2` and `qwen3`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ashore.core.errors import UnsupportedModel
from ashore.data.engines.openvino.encodergraph import FAR_BELOW, Drawing


class CausalConfig(msgspec.Struct, frozen=True):
    """The part of `config.json` that shapes the graph; transformers 5 has the rotary base in a table."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    max_position_embeddings: int
    num_key_value_heads: int = 0
    head_dim: int = 0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    hidden_act: str = "silu"
    use_sliding_window: bool = False
    architectures: tuple[str, ...] = ()

    @property
    def theta(self) -> float:
        """The base of the rotary angles.

        Raises:
            UnsupportedModel: the angles are scaled.
        """
        told = self.rope_parameters or {}
        scaled = self.rope_scaling or (told if told.get("rope_type", "default") != "default" else None)
        if scaled or self.use_sliding_window or self.hidden_act != "silu":
            raise UnsupportedModel(
                "the model scales its positions, sees a window, or has another activation than silu",
                hint="serve it with vLLM",
            )
        return float(told.get("rope_theta", self.rope_theta))


def build_causal(config: CausalConfig, draw: Drawing) -> Any:
    """Return the states of all tokens, [B, T, H].

    Padding behind a text is not hidden: no token of the text sees what comes after it.

    Raises:
        UnsupportedModel: a tensor is missing, or the model has a form that is not built here.
    """
    op, ints = draw.op, draw.ints
    heads, of_keys = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    size = config.head_dim or config.hidden_size // heads
    turns = draw.angles(config.theta, size)
    places_T = draw.places()
    later = op.greater(op.unsqueeze(places_T, ints(0)), op.unsqueeze(places_T, ints(1)))
    unseen = op.unsqueeze(op.multiply(op.convert(later, np.float32), draw.real(FAR_BELOW)), ints(0, 1))

    def norm(x: Any, name: str) -> Any:
        mean = op.reduce_mean(op.multiply(x, x), ints(-1), True)
        unit = op.divide(x, op.sqrt(op.add(mean, draw.real(config.rms_norm_eps))))
        return op.multiply(unit, draw.weight(name + ".weight"))

    def by_head(x: Any, number: int, name: str) -> Any:
        rows = op.reshape(x, ints(0, 0, number, size), True)
        if f"{name}.weight" in draw.tensors:
            rows = norm(rows, name)
        return op.transpose(rows, ints(0, 2, 1, 3))

    def repeated(x: Any) -> Any:
        if heads == of_keys:
            return x
        length = op.unsqueeze(draw.length, ints(0))
        batch = op.gather(op.shape_of(draw.ids_BT), ints(0), draw.whole(0))
        shape = op.concat([batch, ints(of_keys), ints(heads // of_keys), length, ints(size)], 0)
        wide = op.broadcast(op.unsqueeze(x, ints(2)), shape, broadcast_spec="BIDIRECTIONAL")
        return op.reshape(wide, ints(0, heads, -1, size), True)

    x = draw.embedded(draw.ids_BT, "embed_tokens.weight")
    for layer in range(config.num_hidden_layers):
        at = f"layers.{layer}."
        read = norm(x, at + "input_layernorm")
        query, key, value = (draw.linear(read, f"{at}self_attn.{name}_proj") for name in "qkv")
        query = draw.turned(by_head(query, heads, at + "self_attn.q_norm"), *turns)
        key = draw.turned(by_head(key, of_keys, at + "self_attn.k_norm"), *turns)
        value = by_head(value, of_keys, "")
        seen = draw.attended(query, repeated(key), repeated(value), unseen, heads=heads, size=size)
        x = op.add(x, draw.linear(seen, at + "self_attn.o_proj"))
        read = norm(x, at + "post_attention_layernorm")
        gate, up = (draw.linear(read, f"{at}mlp.{name}_proj") for name in ("gate", "up"))
        x = op.add(x, draw.linear(op.multiply(op.swish(gate), up), at + "mlp.down_proj"))
    return norm(x, "norm")
