"""Shapes of published models by name, and their costs: parameters in each kind of matrix."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import log
from pathlib import Path
from typing import Any, Final

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.shapes import HEAVY_RATIO, LIGHT_RATIO, ModelShape
from ashore.kit.store.conversion.checkedshape import checked_shape
from ashore.kit.store.conversion.configshape import check_generates, dimensions_of_config, model_type_of, text_part

_HEAD_SIZE: Final = 128
"""Of the linear layers of Qwen3-Next and its successors; their keys have 16 heads."""
_LINEAR_KEYS: Final = 16 * _HEAD_SIZE


def plain(name: str) -> str:
    """Return a name in lower case, with one dash between words."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def best_match(name: str, aliases: Mapping[str, str]) -> str | None:
    """Return the entry whose longest alias is in `name`, or None.

    Args:
        name: As a publication prints it.
        aliases: Entry by alias; aliases are in lower case without dashes, which may stand anywhere in the name. One
            that begins or ends with a digit is not cut out of a longer number: `l4` is not in `l40`.
    """
    told = plain(name)
    found = [alias for alias in aliases if _pattern(alias).search(told)]
    return aliases[max(found, key=len)] if found else None


@cache
def _pattern(alias: str) -> re.Pattern[str]:
    bare = alias.replace("-", "")
    before = r"(?<![0-9.])" if bare[0].isdigit() else r"(?<![a-z])" if len(bare) <= 3 else ""
    after = r"(?![0-9])" if bare[-1].isdigit() else ""
    return re.compile(before + "-?".join(re.escape(letter) for letter in bare) + after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model for the arithmetic of time and memory: its parameters, and which of them a token uses."""

    name: str
    shape: ModelShape
    attention: float
    """Weights of attention in all layers."""
    dense: float
    """Weights of feed-forward layers that every token uses."""
    shared: float
    """Weights of the shared experts of all layers."""
    expert: float
    """Weights of one routed expert of each layer that has them."""
    head: float
    """Weights of the output matrix."""
    embedding: float
    """Weights of the input matrix, where it is not the same."""
    known: bool = True
    """Whether its shape is in the catalogue or was given; False: it is guessed from the number of parameters."""

    @property
    def parameters(self) -> float:
        shape = self.shape
        return self.attention + self.dense + self.shared + self.expert * shape.num_experts + self.head + self.embedding

    @property
    def active(self) -> float:
        """Weights that one token uses, without the input matrix."""
        return self.attention + self.dense + self.shared + self.expert * self.shape.experts_per_token + self.head

    @property
    def pair_flops(self) -> float:
        """Operations of attention for one token that looks at one other, in all layers that look everywhere."""
        shape = self.shape
        whole = shape.num_layers - shape.window_layers - shape.linear_layers - shape.light_layers - shape.heavy_layers
        layers = whole + shape.light_layers / LIGHT_RATIO + shape.heavy_layers / HEAVY_RATIO
        width = shape.head_dim + 32 if shape.latent_rank else shape.head_dim
        return 4.0 * shape.num_heads * width * layers

    @property
    def decode_pair_flops(self) -> float:
        """As `pair_flops` while answers are made: latent attention then works on the latent rows themselves."""
        shape = self.shape
        if not shape.latent_rank:
            return self.pair_flops
        return 2.0 * shape.num_heads * (2 * shape.latent_rank - 64) * shape.num_layers


def network_of(shape: ModelShape, *, name: str, matrices: int = 3, tied: bool = False) -> Network:
    """Return the costs of a model of this shape.

    Args:
        shape: With `ffn_size`; where that is 0 and the model is dense, its feed-forward layers are what is left of
            `num_parameters`.
        name: For people.
        matrices: Matrices of a feed-forward layer: three with a gate, two without.
        tied: Whether input and output matrix are one.
    """
    hidden, layers = shape.hidden_size, shape.num_layers
    attention = _attention(shape)
    moe_layers = layers - shape.dense_layers if shape.num_experts else 0
    dense = float((layers - moe_layers) * matrices * hidden * shape.ffn_size)
    head = float(shape.vocab_size * hidden)
    embedding = 0.0 if tied else head
    if not shape.num_experts and not shape.ffn_size:
        dense = max(0.0, shape.num_parameters - attention - head - embedding)
    return Network(
        name=name,
        shape=shape,
        attention=attention,
        dense=dense,
        shared=float(moe_layers * 3 * hidden * shape.shared_size),
        expert=float(moe_layers * 3 * hidden * shape.expert_size),
        head=head,
        embedding=embedding,
    )


def _attention(shape: ModelShape) -> float:
    hidden, heads, width = shape.hidden_size, shape.num_heads, shape.head_dim
    full = shape.num_layers - shape.linear_layers
    if shape.light_layers or shape.heavy_layers:  # V4: one row for keys and values, answers through 1,024 numbers
        out = heads * width * 1024 + heads * width / 4096 * 1024 * hidden
        return float(full * (hidden * shape.query_rank + shape.query_rank * heads * width + hidden * width + out))
    if shape.latent_rank:
        asked = heads * (width + 64)
        queries = hidden * shape.query_rank + shape.query_rank * asked if shape.query_rank else hidden * asked
        one = (
            queries + hidden * shape.latent_rank + (shape.latent_rank - 64) * heads * 2 * width + heads * width * hidden
        )
    else:
        gated = 2 if shape.linear_layers else 1
        one = hidden * (gated * heads + 2 * shape.num_kv_heads) * width + heads * width * hidden
    values = shape.linear_state / _HEAD_SIZE
    linear = hidden * (2 * _LINEAR_KEYS + 2 * values) + values * hidden
    return float(full * one + shape.linear_layers * linear)


@cache
def networks() -> dict[str, Network]:
    """Return the catalogue of shapes by name."""
    return {name: _network(name, table) for name, table in _tables().items()}


def find_network(name: str, *, parameters_b: float = 0.0, active_b: float = 0.0) -> Network | None:
    """Return the model of a published name.

    Args:
        name: `meta-llama/Llama-3.1-70B`, `qwen3-32b-nvfp4`.
        parameters_b: Billions of parameters that a publication states, for unknown names; 0: not stated, and
            read from the name (`-72b`, `-a22b`) where it has it.
        active_b: Billions that one token touches.

    Returns:
        None where the name is not known and no number of parameters is.
    """
    told = name.rsplit("/", 1)[-1]
    if told in networks():
        return networks()[told]
    found = best_match(told, _aliases())
    if found is not None:
        return networks()[found]
    total, active = read_sizes(told)
    total, active = parameters_b or total, active_b or active
    return guess_network(name, total, active) if total else None


def read_sizes(name: str) -> tuple[float, float]:
    """Return the billions of total and active parameters in a name; 0 if absent."""
    told = plain(name)
    active = re.search(r"(?<![a-z0-9])a(\d{1,6}(?:\.\d+)?)b(?![a-z0-9])", told)
    total = re.search(r"(?<![a-z0-9.])(\d{1,6}(?:\.\d{1,6})?)([bmt])(?![a-z0-9])", told)
    scale = {"b": 1.0, "m": 1e-3, "t": 1e3}
    return (
        float(total[1]) * scale[total[2]] if total else 0.0,
        float(active[1]) if active else 0.0,
    )


def guess_network(name: str, parameters_b: float, active_b: float = 0.0) -> Network:
    """Return a typical model with a number of parameters: unknown properties are as in similar models."""
    sparse = 0 < active_b < 0.7 * parameters_b

    def distance(one: Network) -> float:
        apart = abs(log(one.parameters / (parameters_b * 1e9)))
        return apart + (abs(log(one.active / (active_b * 1e9))) if sparse else 0.0)

    like = min((one for one in networks().values() if bool(one.shape.num_experts) == sparse), key=distance)
    scale = parameters_b * 1e9 / like.parameters
    wide = active_b * 1e9 / like.active if sparse else scale
    return Network(
        name=name,
        shape=like.shape,
        attention=like.attention * wide,
        dense=like.dense * wide,
        shared=like.shared * wide,
        expert=like.expert * scale,
        head=like.head,
        embedding=like.embedding,
        known=False,
    )


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name, table in _tables().items() for alias in (*table["aliases"], plain(name))}


@cache
def _tables() -> Mapping[str, dict[str, Any]]:
    return tomllib.loads(files("ashore.lab.sizing").joinpath("networks.toml").read_text(encoding="utf-8"))


def _network(name: str, table: Mapping[str, Any]) -> Network:
    shape = ModelShape(architecture="", num_parameters=0, **table["shape"])
    return network_of(shape, name=name, matrices=table.get("matrices", 3), tied=bool(table.get("tied")))


def network_of_config(path: Path) -> Network:
    """Return the model of a config.json in Hugging Face form, of any kind of decoder.

    Raises:
        UnsupportedModel: it is not a JSON object, lacks a required dimension, or the model does not generate text.
    """
    with foreign_errors(f"{path} is not the config.json of a decoder", UnsupportedModel, hint="give a config.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        kind, config = model_type_of(told), text_part(told)
        check_generates(told, has_template=True)
        dimensions = {"architecture": kind, "num_parameters": 0, **dimensions_of_config(config)}
        shape = checked_shape(dimensions, what=str(path))
        name = str(told.get("_name_or_path") or "") or path.resolve().parent.name
        return network_of(shape, name=name, tied=bool(config.get("tie_word_embeddings")))
