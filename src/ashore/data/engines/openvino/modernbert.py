"""Cross-encoders of the ModernBERT family: rotary positions, layers that see a window, gated feed-forward layers.

Source: transformers, model type `modernbert`; Warner et al., "Smarter, Better, Faster, Longer", 2024.
"""

from __future__ import annotations

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


def build_modernbert(config: ModernBertConfig, tensors: dict[str, Any]) -> Any:
    """Return the graph: `ids`, `mask` and `types` [B, T] in, one logit [B, 1] out. `types` is ignored.

    Raises:
        UnsupportedModel: a tensor is missing, or an activation is not supported.
    """
    if {config.hidden_activation, config.classifier_activation} != {"gelu"}:
        raise UnsupportedModel(f"the activation {config.hidden_activation!r} is not supported; expected 'gelu'")
    draw = Drawing(tensors)
    op, ints = draw.op, draw.ints
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads

    def linear(x: Any, name: str) -> Any:
        if name + ".bias" in tensors:
            return draw.linear(x, name)
        return op.matmul(x, draw.weight(name + ".weight"), False, True)

    def norm(x: Any, name: str) -> Any:
        scaled = op.multiply(draw.normed(x, config.norm_eps), draw.weight(name + ".weight"))
        return op.add(scaled, draw.weight(name + ".bias")) if name + ".bias" in tensors else scaled

    places_T = op.convert(op.range(draw.whole(0), draw.length, draw.whole(1), "i64"), np.float32)

    def angles(theta: float) -> tuple[Any, Any]:
        """Return cosines and sines, [T, size]: both halves of a head rotate by the same angles."""
        turns = np.float32(theta) ** (-np.arange(0, size, 2, dtype=np.float32) / size)
        angles_TD = op.matmul(op.unsqueeze(places_T, ints(1)), op.constant(np.tile(turns, 2)[None, :]), False, False)
        return op.cos(angles_TD), op.sin(angles_TD)

    def turned(x: Any, cosines: Any, sines: Any) -> Any:
        low, high = op.split(x, draw.whole(-1), 2).outputs()
        other = op.concat([op.negative(high), low], -1)
        return op.add(op.multiply(x, cosines), op.multiply(other, sines))

    whole = draw.unseen()
    apart = op.abs(op.subtract(op.unsqueeze(places_T, ints(1)), op.unsqueeze(places_T, ints(0))))
    beyond = op.convert(op.greater(apart, draw.real(config.local_attention // 2)), np.float32)
    near = op.add(whole, op.multiply(op.unsqueeze(beyond, ints(0, 1)), draw.real(FAR_BELOW)))
    turns = {local: angles(config.rope_theta(local=local)) for local in (False, True)}

    x = norm(draw.embedded(draw.ids_BT, "model.embeddings.tok_embeddings.weight"), "model.embeddings.norm")
    for layer in range(config.num_hidden_layers):
        at, local = f"model.layers.{layer}.", config.is_local(layer)
        read = norm(x, at + "attn_norm") if layer else x
        joined = op.reshape(linear(read, at + "attn.Wqkv"), ints(0, 0, 3, heads, size), True)
        parts = op.split(op.transpose(joined, ints(2, 0, 3, 1, 4)), draw.whole(0), 3).outputs()
        query, key, value = (op.squeeze(part, ints(0)) for part in parts)
        query, key = turned(query, *turns[local]), turned(key, *turns[local])
        seen = draw.attended(query, key, value, near if local else whole, heads=heads, size=size)
        x = op.add(x, linear(seen, at + "attn.Wo"))
        wide, gate = op.split(linear(norm(x, at + "mlp_norm"), at + "mlp.Wi"), draw.whole(-1), 2).outputs()
        x = op.add(x, linear(op.multiply(op.gelu(wide, "erf"), gate), at + "mlp.Wo"))
    x = norm(x, "model.final_norm")
    pooled = draw.first_state(x) if config.classifier_pooling == "cls" else draw.mean_state(x)
    return draw.model(linear(norm(op.gelu(linear(pooled, "head.dense"), "erf"), "head.norm"), "classifier"))
