"""`embedding.json`: how an embedder pools the states of a text into one vector, from its makers' files.

Source: sentence-transformers 6.2. `modules.json` lists the steps by class, whose package has moved, so the last word of
`type` counts. `1_Pooling/config.json` has one boolean for each way, or, since version 6, one word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.shapes import ENCODERS

EMBEDDING: Final = "embedding.json"
POOLING: Final = "1_Pooling/config.json"
_WAYS: Final[Mapping[str, Literal["cls", "mean"]]] = {
    "cls": "cls",
    "cls_token": "cls",
    "mean": "mean",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean",  # a different length, because the vector is not normalised
}
_EMBEDS: Final = ("bert", "xlm-roberta")
Read = Callable[[str], bytes | None]


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """How vectors are made; they always have the length one. The defaults are those of models that were pulled before
    ashore read this."""

    pooling: Literal["cls", "mean"] = "mean"
    """`cls`: the state of the first token; `mean`: the mean over all tokens."""
    max_tokens: int = 0
    """Longest text that the model was made for; 0: as many as it has positions."""


def is_embedder(config: Mapping[str, Any], read: Read) -> bool:
    """Return whether a checkpoint makes embeddings: an encoder without a ranking head.

    Raises:
        UnsupportedModel: an encoder that is served as a reranker only, or a decoder that makes vectors, as
            `modules.json` says: its config.json alone looks like that of a model that writes.
    """
    named = [str(name) for name in config.get("architectures") or ()]
    encoder = config.get("model_type") in ENCODERS
    if not encoder and read("modules.json") is not None:
        raise _unknown("modules.json", f"vectors of a {ascii(config.get('model_type'))[:40]}")
    if not encoder or any(name.endswith("ForSequenceClassification") for name in named):
        return False
    if config["model_type"] not in _EMBEDS:
        raise UnsupportedModel(
            f"{config['model_type']} models are served as rerankers only, and this one has no head of a reranker",
            hint=f"use an embedder of the types {' or '.join(_EMBEDS)}",
        )
    return True


def reading(folder: Path) -> Read:
    """Return a reader of a folder's files for `embedding_of`."""
    return lambda name: (folder / name).read_bytes() if (folder / name).is_file() else None


def embedding_of(read: Read) -> Embedding:
    """Return the pooling from an embedder's files; the default without `modules.json`.

    Args:
        read: Gives the bytes of a file by its name, None where there is none.

    Raises:
        UnsupportedModel: another way than first token or mean, a further layer, a prompt before every text, or vectors
            with a meaningful length: other settings would make them wrong unnoticed.
    """
    steps = _json(read, "modules.json", list) or []
    kinds = [str(step.get("type", "")).rpartition(".")[2] if isinstance(step, dict) else "" for step in steps]
    for kind, step in zip(kinds, steps, strict=True):
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise _unknown("modules.json", f"the step {ascii(kind or step)[:60]}")
    if steps and ("Pooling" not in kinds or read(POOLING) is None):
        raise _unknown("modules.json", f"no pooling, or {POOLING} is missing")
    prompts = _json(read, "config_sentence_transformers.json", dict) or {}
    if prompts.get("default_prompt_name"):
        raise _unknown("config_sentence_transformers.json", "default_prompt_name, a prompt before every text")
    if prompts.get("similarity_fn_name") in ("dot", "euclidean", "manhattan") and "Normalize" not in kinds:
        raise _unknown("config_sentence_transformers.json", "vectors that are not compared by their angle")
    longest = (_json(read, "sentence_bert_config.json", dict) or {}).get("max_seq_length")
    told = _json(read, POOLING, dict)
    return Embedding(
        pooling="mean" if told is None else _way(told),
        max_tokens=longest if type(longest) is int and longest > 0 else 0,
    )


def _way(told: Mapping[str, Any]) -> Literal["cls", "mean"]:
    named = told.get("pooling_mode")
    prefix = "pooling_mode_"
    on = [named] if named else [name[len(prefix) :] for name in told if name.startswith(prefix) and told[name] is True]
    if len(on) != 1 or on[0] not in _WAYS:
        raise _unknown(POOLING, " and ".join(ascii(way)[:40] for way in on) or "no way of pooling")
    if told.get("include_prompt") is False:
        raise _unknown(POOLING, "a prompt that is left out of the mean")
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
        f"{name} asks for {what}; embedders are served that take the first token (cls) or the mean of all tokens",
        hint="use an embedder of the families BGE, E5, GTE or MiniLM, or serve this one with vLLM outside ashore",
    )
