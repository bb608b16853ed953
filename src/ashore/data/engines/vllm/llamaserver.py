"""llama-server's own form of an order: `/completion` with token ids.

Its form of `/v1/completions` returns no token ids. A sampling field that is left out is not neutral there, so each is
set. It ends at the end tokens of its GGUF file; other stop tokens end the answer here. Its slots share the context.

Source: the page of llama.cpp's server, "POST /completion"; answers of a real server.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ashore.data.engines.model import Feature, GenerateOrder, Grammar, TokenLogprob
from ashore.data.engines.vllm.dialects import UNSAID, Dialect, Piece, Read, no_grammar
from ashore.data.engines.vllm.wire import ErrorBody, TokenId


class _Best(msgspec.Struct, frozen=True):
    id: TokenId
    logprob: float


class _Chosen(_Best, frozen=True):
    top_logprobs: list[_Best] = []


class _Timings(msgspec.Struct, frozen=True):
    cache_n: int | None = None


class _Event(msgspec.Struct, frozen=True):
    tokens: list[TokenId] = []
    completion_probabilities: list[_Chosen] = []
    stop: bool = False
    stop_type: str = ""
    timings: _Timings | None = None
    error: ErrorBody | None = None


def order_body(order: GenerateOrder, model: str) -> dict[str, Any]:
    """Return the request body for `order`. Prefixes are kept only where the operator shares them between tenants: a
    slot has no partition."""
    sampling = order.sampling
    body: dict[str, Any] = {
        "prompt": order.prompt_ids,
        "n_predict": order.max_new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": 1.0,
        "top_n_sigma": -1.0,
        "xtc_probability": 0.0,
        "dynatemp_range": 0.0,
        "mirostat": 0,
        "dry_multiplier": 0.0,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": len(order.prompt_ids) + order.max_new_tokens,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
        "seed": -1 if sampling.seed is None else sampling.seed % (1 << 32),
        "logit_bias": [[token_id, bias] for token_id, bias in sampling.logit_bias.items()],
        "n_probs": 0 if order.top_logprobs is None else max(1, order.top_logprobs),
        "ignore_eos": order.ignore_eos,
        "cache_prompt": not order.prefix_partition,
        "return_tokens": True,
        "stream": True,
    }
    if order.grammar is not None:
        body["json_schema"] = _schema(order.grammar)
    return body


def _schema(grammar: Grammar) -> Any:
    match grammar.kind:
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            return msgspec.json.decode(grammar.text)
        case _:
            raise no_grammar("llama-server", grammar)


def reader(order: GenerateOrder) -> Read:
    """Return what reads the answer of `order`."""
    top = order.top_logprobs

    def read(data: bytes) -> Piece:
        event = msgspec.json.decode(data, type=_Event)
        if event.error is not None:
            return Piece(rows=[], error=event.error.message)
        piece = Piece(rows=[(token_id, None, ()) for token_id in event.tokens])
        if top is not None and event.completion_probabilities:
            piece.rows = [
                (one.id, one.logprob, tuple(TokenLogprob(best.id, best.logprob) for best in one.top_logprobs[:top]))
                for one in event.completion_probabilities
            ]
        if event.stop:
            piece.rows = []  # the last event may repeat them
            piece.ended = {"eos": "stop", "limit": "length"}.get(event.stop_type, event.stop_type or "nothing")
            piece.cached_tokens = event.timings.cache_n if event.timings is not None else None
        return piece

    return read


_LACKS: Final = frozenset[Feature](("presence_penalty", "frequency_penalty", "min_tokens"))
"""Its penalties count the prompt as well, and it has no fewest tokens."""

LLAMA_SERVER: Final = Dialect(
    name="llama-server",
    title="llama-server",
    owner="llamacpp",
    path="/completion",
    body=order_body,
    reader=reader,
    lacks=UNSAID | _LACKS,
    version=("/props", "build_info"),
    about="/props",
    context=lambda told: told["default_generation_settings"]["n_ctx"],
)
