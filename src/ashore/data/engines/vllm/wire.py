"""vLLM's HTTP form of an order and of its answer. Pure translation.

Source: vLLM's OpenAI-compatible server, extra parameters of the completions API (docs.vllm.ai, "OpenAI-Compatible
Server"): prompts as token ids, `return_token_ids`, `return_tokens_as_token_ids`, `cache_salt`, `structured_outputs`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from ashore.core.errors import AshoreError, EngineFailed, InvalidRequest, Overloaded, RemoteRefused
from ashore.core.sampling import RECOMMENDABLE, changed_fields
from ashore.data.engines.model import GenerateOrder, Grammar, TokenLogprob
from ashore.data.engines.vllm.dialects import Dialect, Piece, Read, Row

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
"""Another one, no tokenizer and no frame takes; a server that sends it fails that order alone."""
_ID_PREFIX: Final = "token_id:"


class Logprobs(msgspec.Struct, frozen=True):
    """`logprobs` of a completions chunk, one entry for each token."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(msgspec.Struct, frozen=True):
    """One choice of a chunk."""

    token_ids: list[TokenId] | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: TokenId | str | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None


class Sleeping(msgspec.Struct, frozen=True):
    """Answer of `/is_sleeping`."""

    is_sleeping: bool


class PromptLogprob(msgspec.Struct, frozen=True):
    """One entry of `prompt_logprobs`."""

    logprob: float
    rank: int | None = None


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """How much of the prompt came from the prefix cache."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """Counts at the end of an answer."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The server's error message."""

    message: str = ""
    type: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    """One event of a stream, or a whole answer."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: ErrorBody | None = None


class Vector(msgspec.Struct, frozen=True):
    """One embedding."""

    index: int
    embedding: list[float]


class Vectors(msgspec.Struct, frozen=True):
    """Answer of `/v1/embeddings`."""

    data: list[Vector]


class ModelEntry(msgspec.Struct, frozen=True):
    """One entry of `/v1/models`."""

    id: str
    owned_by: str = ""
    max_model_len: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)] | None = None
    features: Any = None
    """Of a node of ashore, the list of what it can do."""
    parent: str | None = None
    """Of a LoRA adapter, the model that it belongs to."""


class ModelList(msgspec.Struct, frozen=True):
    """Answer of `/v1/models`."""

    data: list[ModelEntry] = []


def completion_body(order: GenerateOrder, model: str) -> dict[str, Any]:
    """Return the request body for `order`, streamed. vLLM fills missing fields with the model's recommendations; so
    only fields that no model recommends are left out."""
    sampling = order.sampling
    body: dict[str, Any] = {
        "model": model,
        "prompt": order.prompt_ids,
        "max_tokens": order.max_new_tokens,
        **{name: getattr(sampling, name) for name in RECOMMENDABLE},
        "ignore_eos": True,  # the order defines what ends it
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "add_special_tokens": False,
    }
    body |= {name: getattr(sampling, name) for name in changed_fields(sampling)}
    if sampling.logit_bias:
        body["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias.items()}
    if order.stop_token_ids and not order.ignore_eos:
        body["stop_token_ids"] = list(order.stop_token_ids)
    if order.top_logprobs is not None:
        body |= {"logprobs": order.top_logprobs, "return_tokens_as_token_ids": True}
    if order.grammar is not None:
        body["structured_outputs"] = structured_outputs(order.grammar)
    if order.prefix_partition:
        body["cache_salt"] = order.prefix_partition
    if order.adapter is not None:
        body["model"] = order.adapter
    return body


def structured_outputs(grammar: Grammar) -> dict[str, Any]:
    """Return vLLM's form of a grammar."""
    match grammar.kind:
        case "json_object":
            return {"json_object": True}
        case "json_schema":
            return {"json": msgspec.json.decode(grammar.text)}
        case "regex":
            return {"regex": grammar.text}
        case "lark":
            return {"grammar": grammar.text}


def reader(order: GenerateOrder) -> Read:
    """Return what reads the answer of `order`."""

    def read(data: bytes) -> Piece:
        chunk, piece = msgspec.json.decode(data, type=Chunk), Piece(rows=[])
        if chunk.error is not None:
            piece.error = chunk.error.message or "no reason given"
        if chunk.usage is not None and chunk.usage.prompt_tokens_details is not None:
            piece.cached_tokens = chunk.usage.prompt_tokens_details.cached_tokens or 0
        for choice in chunk.choices:
            piece.rows += token_rows(choice, order.top_logprobs)
            if choice.finish_reason is not None:
                piece.ended = choice.finish_reason
                piece.stop_token_id = choice.stop_reason if isinstance(choice.stop_reason, int) else None
        return piece

    return read


def token_rows(choice: Choice, top: int | None) -> list[Row]:
    """Return each token of a chunk with its log-probability and the `top` best.

    Raises:
        EngineFailed: the server left the token ids out, or some of their log-probabilities.
    """
    if choice.token_ids is None:
        if choice.finish_reason is not None:
            return []
        raise EngineFailed("vLLM sent text without token ids", hint="vLLM 0.10.2 or newer is needed (return_token_ids)")
    if top is None or choice.logprobs is None:
        return [(token_id, None, ()) for token_id in choice.token_ids]
    rows = []
    for place, token_id in enumerate(choice.token_ids):
        best = (choice.logprobs.top_logprobs or [None] * (place + 1))[place] or {}
        entries = sorted(
            (TokenLogprob(_token_id(text), value) for text, value in best.items()), key=lambda e: -e.logprob
        )
        rows.append((token_id, choice.logprobs.token_logprobs[place], tuple(entries[:top])))
    return rows


def score_rows(choice: Choice, ids: list[int], top: int) -> list[tuple[TokenLogprob, ...]]:
    """Return, for each token but the first, its log-probability and the `top` best."""
    rows = []
    for token_id, found in zip(ids[1:], (choice.prompt_logprobs or [])[1:], strict=True):
        entries = {int(text): entry.logprob for text, entry in (found or {}).items()}
        best = sorted(entries.items(), key=lambda item: -item[1])[:top]
        rows.append((TokenLogprob(token_id, entries[token_id]), *(TokenLogprob(i, value) for i, value in best)))
    return rows


def error_for(title: str, url: str, status: int, words: str, *, retry_after_s: float = 1.0) -> AshoreError:
    """Return our error for an answer of a server of a kind (`title`). A refused key is for the operator to mend."""
    said = f"returned status {status}" + (f": {words[:500]}" if words else "")
    text = f"{title} at {url} {said}"
    if status in (401, 402, 403):
        hint = (
            "look at the account there" if status == 402 else "set [model.engine] key to the place of the server's key"
        )
        return RemoteRefused(text, hint=hint)
    if status in (429, 503):
        return Overloaded(text, retry_after_s=retry_after_s)
    if 400 <= status < 500:
        return InvalidRequest(f"{title} {said}")
    return EngineFailed(text, hint="see the log of that server")


def _token_id(text: str) -> int:
    if not text.startswith(_ID_PREFIX):
        raise EngineFailed(f"vLLM returned the token {text!r} instead of a token id")
    return int(text.removeprefix(_ID_PREFIX))


VLLM: Final = Dialect(
    name="vllm",
    title="vLLM",
    owner="vllm",
    path="/v1/completions",
    body=completion_body,
    reader=reader,
)
