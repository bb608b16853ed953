"""`embedding.json`: how an embedder makes a vector from the states of a text, from its makers' files.

Source: sentence-transformers 6.2. `modules.json` lists the steps by class, whose package has moved, so the last word of
`type` counts. `1_Pooling/config.json` has one boolean for each way, or, since version 6, one word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.shapes import DECODERS_THAT_EMBED, ENCODERS
from ashore.kit.store.model import WEIGHT_SUFFIXES
from ashore.kit.textfile import read_model_text

EMBEDDING: Final = "embedding.json"
POOLING: Final = "1_Pooling/config.json"
Pooling = Literal["cls", "mean", "max", "last", "weighted"]
"""The state of the first token, the mean over all tokens, the largest number of each place, the state of the last
token, or the mean in which later tokens count more."""
Activation = Literal["identity", "tanh", "relu", "gelu"]
_WAYS: Final[Mapping[str, Pooling]] = {
    "cls": "cls",
    "cls_token": "cls",
    "mean": "mean",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean",  # a different length, because the vector is not normalised
    "max": "max",
    "max_tokens": "max",
    "lasttoken": "last",
    "weightedmean": "weighted",
    "weightedmean_tokens": "weighted",
}
_ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu",
}  # fmt: skip
_STEPS: Final = re.compile("Transformer Pooling( Dense)*( Normalize)?")
_DENSE: Final = re.compile(r"\d+_Dense")
Read = Callable[[str], bytes | None]


class Dense(msgspec.Struct, frozen=True, kw_only=True):
    """A layer behind the pooling; its weights are `PATH/model.safetensors`."""

    path: str
    size: int
    """Numbers of its result."""
    activation: Activation = "identity"


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """How vectors are made; they always have the length one. The defaults are those of models that were pulled before
    ashore read this."""

    pooling: Pooling = "mean"
    max_tokens: int = 0
    """Longest text that the model was made for; 0: as many as it has positions."""
    dense: tuple[Dense, ...] = ()
    prompts: dict[str, str] = {}
    """Put before a text, by what the text is: `query`, `passage`."""
    default_prompt: str = ""
    """The one of a text of which nothing is said; empty: none."""
    dims: tuple[int, ...] | None = ()
    """Shorter vectors that the model was trained for; None: any."""


def is_embedder(config: Mapping[str, Any], read: Read) -> bool:
    """Return whether a checkpoint makes embeddings: an encoder without a ranking head, or a decoder of which
    `modules.json` says so, because its config.json alone looks like that of a model that writes.

    Raises:
        UnsupportedModel: a decoder that makes vectors, of another kind than those served.
    """
    named = [str(name) for name in config.get("architectures") or ()]
    kind = config.get("model_type")
    if kind not in ENCODERS and read("modules.json") is not None:
        if kind not in DECODERS_THAT_EMBED.values():
            raise _unknown("modules.json", f"vectors of a {ascii(kind)[:40]}")
        return True
    return kind in ENCODERS and not any(name.endswith("ForSequenceClassification") for name in named)


def reading(folder: Path) -> Read:
    """Return a reader of a folder's files for `embedding_of`."""
    return lambda name: read_part(folder / name)


def read_part(path: Path) -> bytes | None:
    """Return the bytes of one of a model's files, none of weights; None where there is none."""
    if not path.is_file():
        return None
    return b"" if path.name.endswith(WEIGHT_SUFFIXES) else read_model_text(path)


def layers_among(names: Iterable[str]) -> list[str]:
    """Return the files of steps behind the transformer, of all names in a repository: `2_Dense/model.safetensors`."""
    files = ("config.json", "model.safetensors")
    return sorted(n for n in names if _DENSE.fullmatch(n.partition("/")[0]) and n.partition("/")[2] in files)


def embedding_of(read: Read) -> Embedding:
    """Return how vectors are made, from an embedder's files; the default without `modules.json`.

    Args:
        read: As `read_part`, by the name of a file.

    Raises:
        UnsupportedModel: a step that is not known, several ways of pooling, a prompt that is not to be pooled, weights
            that can run code, or vectors with a meaningful length: other settings would make them wrong unnoticed.
    """
    steps = _json(read, "modules.json", list) or []
    kinds = [str(step.get("type", "")).rpartition(".")[2] if isinstance(step, dict) else "" for step in steps]
    for kind, step in zip(kinds, steps, strict=True):
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise _unknown("modules.json", f"the step {ascii(kind or step)[:60]}")
    if steps and ("Pooling" not in kinds or read(POOLING) is None):
        raise _unknown("modules.json", f"no pooling, or {POOLING} is missing")
    if steps and not _STEPS.fullmatch(" ".join(kinds)):
        raise _unknown("modules.json", f"the steps {', '.join(kinds)[:80]} in this order")
    said = _json(read, "config_sentence_transformers.json", dict) or {}
    if said.get("similarity_fn_name") in ("dot", "euclidean", "manhattan") and "Normalize" not in kinds:
        raise _unknown("config_sentence_transformers.json", "vectors that are not compared by their angle")
    longest = (_json(read, "sentence_bert_config.json", dict) or {}).get("max_seq_length")
    told = _json(read, POOLING, dict)
    prompts, default = _prompts(said, told or {})
    return Embedding(
        pooling="mean" if told is None else _way(told),
        max_tokens=longest if type(longest) is int and longest > 0 else 0,
        dense=tuple(_dense(read, step) for kind, step in zip(kinds, steps, strict=True) if kind == "Dense"),
        prompts=prompts,
        default_prompt=default,
        dims=_dims(_json(read, "config.json", dict) or {}),
    )


def _prompts(said: Mapping[str, Any], told: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Return the prompts by their names, and the name of the one that is put before every text."""
    prompts = said.get("prompts") or {}
    default = said.get("default_prompt_name") or ""
    strings = isinstance(prompts, dict) and all(isinstance(one, str) for one in (*prompts, *prompts.values()))
    if not strings or (default and default not in prompts):
        raise _unknown("config_sentence_transformers.json", f"prompts that are no texts, or no {ascii(default)[:40]}")
    if any(prompts.values()) and told.get("include_prompt") is False:
        raise _unknown(POOLING, "a prompt that is left out of the mean")
    return prompts, default


def _dense(read: Read, step: Mapping[str, Any]) -> Dense:
    path = str(step.get("path", ""))
    told = _json(read, f"{path}/config.json", dict) or {} if _DENSE.fullmatch(path) else {}
    named = str(told.get("activation_function") or "Identity").rpartition(".")[2]
    size = told.get("out_features")
    if not _DENSE.fullmatch(path) or named not in _ACTIVATIONS or type(size) is not int or size < 1:
        raise _unknown("modules.json", f"a layer {ascii(path)[:40]} with the activation {ascii(named)[:40]}")
    if read(f"{path}/model.safetensors") is None:
        raise _unknown("modules.json", f"the layer {path}, whose weights are not in safetensors")
    return Dense(path=path, size=size, activation=_ACTIVATIONS[named])


def _dims(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    trained = config.get("matryoshka_dimensions")
    if isinstance(trained, list) and all(type(one) is int and one > 0 for one in trained):
        return tuple(sorted(trained))
    return None if config.get("is_matryoshka") is True else ()


def _way(told: Mapping[str, Any]) -> Pooling:
    named = told.get("pooling_mode")
    prefix = "pooling_mode_"
    on = [named] if named else [name[len(prefix) :] for name in told if name.startswith(prefix) and told[name] is True]
    if len(on) != 1 or on[0] not in _WAYS:
        raise _unknown(POOLING, " and ".join(ascii(way)[:40] for way in on) or "no way of pooling")
    return _WAYS[on[0]]


def _json(read: Read, name: str, kind: type) -> Any:
    data = read(name)
    if data is None:
        return None
    with foreign_errors(f"{name} cannot be read", UnsupportedModel):
        document = json.loads(data)
        if not isinstance(document, kind):
            raise ValueError(f"expected a {kind.__name__}")
    return document


def _unknown(name: str, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{name} asks for {what}, which ashore does not compute; without it the vectors would be wrong",
        hint="use an embedder of the families BGE, E5, GTE, MiniLM or Qwen3, or serve this one with vLLM",
    )
