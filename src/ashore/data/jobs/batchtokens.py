"""What the answers of a batch cost in tokens."""

from __future__ import annotations

import msgspec

from ashore.kit.decode import UNDECODABLE


class BatchTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of many answers."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class _Details(msgspec.Struct):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Usage(msgspec.Struct):
    """Token usage in answers: one form for chat, completions and embeddings, another for responses."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Used(msgspec.Struct):
    usage: _Usage | None = None


_used = msgspec.json.Decoder(_Used)


def add_tokens(sum_: BatchTokens, body: msgspec.Raw) -> BatchTokens:
    """Return `sum_` plus the usage of an answer of any route; an answer without usage adds nothing."""
    try:
        usage = _used.decode(body).usage
    except UNDECODABLE:
        return sum_
    if usage is None:
        return sum_
    read, made = usage.prompt_tokens_details or usage.input_tokens_details, usage.completion_tokens_details
    made = made or usage.output_tokens_details
    return BatchTokens(
        input_tokens=sum_.input_tokens + usage.prompt_tokens + usage.input_tokens,
        cached_tokens=sum_.cached_tokens + (read.cached_tokens if read else 0),
        output_tokens=sum_.output_tokens + usage.completion_tokens + usage.output_tokens,
        reasoning_tokens=sum_.reasoning_tokens + (made.reasoning_tokens if made else 0),
    )
