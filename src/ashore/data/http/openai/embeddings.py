"""`/v1/embeddings` and `/v1/models`."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec

from ashore.core.errors import InvalidRequest
from ashore.data.http.openai.types import EmbeddingRequest
from ashore.data.path import Embedding, ModelCard

_encode = msgspec.json.Encoder().encode


class EmbeddingOut(msgspec.Struct, frozen=True, kw_only=True):
    """One vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Tokens of the input."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/embeddings`."""

    object: Literal["list"] = "list"
    data: list[EmbeddingOut]
    model: str
    usage: EmbeddingUsage


class ModelOut(msgspec.Struct, frozen=True, kw_only=True):
    """One served model. The fields from `release` on are ashore's own."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "ashore"
    release: str
    engine: str
    precision: str
    context_tokens: int
    context_length: int
    max_model_len: int
    """The same, under the names that clients of OpenRouter and of vLLM look for."""
    embedding_size: int
    ready: bool
    """Whether requests are answered; a model on demand may have to load for them first."""
    state: str
    """`loaded`, or how a model on demand stands: cold, waiting, fetching, loading, leaving, failed."""
    load_s: float
    """How long a model on demand took to load, the last time; 0: not known."""
    features: list[str]
    sampling_defaults: dict[str, float]
    """What a request that says nothing is answered with, as the model's makers recommend it."""
    sampling_defaults_from: str
    """Where they do: `generation_config.json` of the model, or ashore's `catalogue`; empty where they do not."""


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelOut]
    models: list[Any] = []
    """Codex CLI looks for its own description of models here, and takes what it knows where there is none."""


def render_embeddings(request: EmbeddingRequest, embedding: Embedding) -> bytes:
    """Return the vectors as JSON."""
    written = _base64 if request.encoding_format == "base64" else _encode
    return _encode(
        EmbeddingList(  # one vector at a time: the encoder blocks the loop until it is done
            data=[
                EmbeddingOut(index=index, embedding=cast(Any, msgspec.Raw(written(vector))))
                for index, vector in enumerate(embedding.vectors)
            ],
            model=embedding.model,
            usage=EmbeddingUsage(embedding.prompt_tokens, embedding.prompt_tokens),
        )
    )


def model_out(card: ModelCard) -> ModelOut:
    """Return a model in OpenAI's form."""
    return ModelOut(
        id=card.alias,
        created=card.created_s,
        release=card.release,
        engine=card.kind,
        precision=card.precision,
        context_tokens=card.context_tokens,
        context_length=card.context_tokens,
        max_model_len=card.context_tokens,
        embedding_size=card.embedding_size,
        ready=card.ready,
        state=card.state,
        load_s=card.load_s,
        features=list(card.features),
        sampling_defaults=dict(card.recommended),
        sampling_defaults_from=card.recommended_by,
    )


def _base64(vector: list[float]) -> bytes:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b'"%b"' % base64.b64encode(numbers.tobytes())


def only_one(what: str, known: Sequence[ModelCard], none: str) -> str:
    """Return the default alias of a request without a model.

    Args:
        what: Plural noun for the `known` models.
        known: Those that the caller may use.
        none: Hint for the case that there is none.

    Raises:
        InvalidRequest: there is none, or more than one.
    """
    if len(known) != 1:
        raise InvalidRequest(
            f"model is missing, and {len(known)} {what} are served here",
            hint="name one: " + ", ".join(card.alias for card in known[:8]) if known else none,
            param="model",
        )
    return known[0].alias
