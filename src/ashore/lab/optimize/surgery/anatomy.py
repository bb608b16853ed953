"""Where a decoder's parameters are, and how many each part has: the counts for pruning, without weights.

A *group* is the heads that share one key and value head; a *channel* is one inner unit of the feed-forward part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ashore.core.errors import UnsupportedModel
from ashore.kit.store import ModelFilesOnDisk, read_gguf_meta

FAMILIES: Final = ("llama", "mistral", "qwen2", "qwen3")
"""`model_type` of what can be pruned: every layer has grouped attention and one feed-forward part."""
_TOLERANCE: Final = 1e-3
"""Share of the parameters that a file may have beside those that the formula counts (frequencies of llama 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Number of each part in a model. All layers have equally many groups and channels."""

    layers: int
    groups: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Parameters of one of each part."""

    sizes: Sizes
    hidden_size: int
    heads_in_group: int
    head_dim: int
    vocab_size: int
    tied: bool
    """The embedding is the output head too, and counted once."""
    projection_bias: bool = False
    """Queries, keys and values have biases (Qwen 2)."""
    head_norms: bool = False
    """Queries and keys are normalised (Qwen 3)."""
    fixed_heads: bool = False
    """Heads cannot go: for this family llama.cpp takes the hidden size for heads times their size (Qwen 2)."""

    @property
    def per_group(self) -> int:
        """Parameters of one group in one layer: its rows of q, k, v, its columns of o."""
        heads = self.heads_in_group
        bias = (heads + 2) * self.head_dim if self.projection_bias else 0
        return 2 * (heads + 1) * self.head_dim * self.hidden_size + bias

    @property
    def per_channel(self) -> int:
        """Parameters of one channel in one layer: a row of gate and up, a column of down."""
        return 3 * self.hidden_size

    @property
    def vocabulary_parameters(self) -> int:
        """Embedding and output head: read for every token, and not prunable here."""
        return self.vocab_size * self.hidden_size * (1 if self.tied else 2)

    def parameters(self, sizes: Sizes | None = None) -> int:
        """Return the parameters of the whole model at these sizes; default: its own."""
        s = sizes or self.sizes
        norms = 2 * self.hidden_size + (2 * self.head_dim if self.head_norms else 0)
        layer = s.groups * self.per_group + s.channels * self.per_channel + norms
        return self.vocabulary_parameters + self.hidden_size + s.layers * layer


def anatomy_of_config(config: Mapping[str, Any], *, name: str) -> Anatomy:
    """Return the anatomy from a `config.json`.

    Raises:
        UnsupportedModel: another family, or a number is missing.
    """
    kind = str(config.get("model_type", ""))
    if kind not in FAMILIES:
        raise UnsupportedModel(
            f"{name} is of the family {kind!r}, which pruning does not support",
            hint=f"supported: {', '.join(FAMILIES)} (no mixture of experts)",
        )
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        groups = int(config.get("num_key_value_heads") or heads)
        return Anatomy(
            sizes=Sizes(
                layers=int(config["num_hidden_layers"]), groups=groups, channels=int(config["intermediate_size"])
            ),
            hidden_size=hidden,
            heads_in_group=heads // groups,
            head_dim=int(config.get("head_dim") or hidden // heads),
            vocab_size=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            projection_bias=kind == "qwen2" or bool(config.get("attention_bias", False)),
            head_norms=kind == "qwen3",
            fixed_heads=kind == "qwen2",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"config.json of {name} lacks {error}") from error


def anatomy_of(files: ModelFilesOnDisk, num_parameters: int) -> Anatomy:
    """Return the anatomy of a stored model from its headers only.

    Raises:
        UnsupportedModel: another family, or parameters that no part here accounts for.
    """
    name = files.reference
    if files.format == "gguf":
        anatomy = _of_gguf(files, name)
    elif files.format == "safetensors":
        text = (files.directory / "config.json").read_text(encoding="utf-8")
        anatomy = anatomy_of_config(json.loads(text), name=name)
    else:
        raise UnsupportedModel(
            f"{name} has the format {files.format!r}, which cannot be pruned",
            hint=f"name the original model: {name.partition('@')[0]}",
        )
    counted = anatomy.parameters()
    if abs(counted - num_parameters) > _TOLERANCE * num_parameters:
        raise UnsupportedModel(
            f"{name} has {num_parameters:,} parameters; {counted:,} are in layers that pruning supports",
            hint="this checkpoint has layers of an unsupported kind",
        )
    return anatomy


def _of_gguf(files: ModelFilesOnDisk, name: str) -> Anatomy:
    meta = read_gguf_meta(files.directory / (files.weights or "model.gguf"))
    vocabulary = next((t.num_elements for t in meta.tensors if t.name == "token_embd.weight"), 0)
    hidden = int(meta.own("embedding_length", 0))
    config = {
        "model_type": meta.architecture,
        "hidden_size": hidden or None,
        "num_hidden_layers": meta.own("block_count"),
        "num_attention_heads": meta.own("attention.head_count"),
        "num_key_value_heads": meta.own("attention.head_count_kv"),
        "head_dim": meta.own("attention.key_length"),
        "intermediate_size": meta.own("feed_forward_length"),
        "vocab_size": vocabulary // hidden if hidden else None,
        "tie_word_embeddings": all(t.name != "output.weight" for t in meta.tensors),
        "attention_bias": any(t.name.endswith("attn_q.bias") for t in meta.tensors),
    }
    anatomy = anatomy_of_config(config, name=name)
    return replace(anatomy, projection_bias=bool(config["attention_bias"]))
