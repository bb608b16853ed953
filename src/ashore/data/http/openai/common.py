"""Common parts of chat and plain completions: sampling, stops, response formats, inputs, usage."""

from __future__ import annotations

import json
from typing import TypedDict

import msgspec

from ashore.core.errors import InvalidRequest
from ashore.core.ids import RequestId
from ashore.core.sampling import Sampling, sampling_of
from ashore.core.wholenumber import whole_number
from ashore.data.bounds import MOST_PRIORITY, MOST_TEXTS, check_schema_size
from ashore.data.cache import Directive, directive_of
from ashore.data.engines import Grammar
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.types import (
    USUAL,
    GrammarFormat,
    Inputs,
    JsonObjectFormat,
    JsonSchemaFormat,
    RegexFormat,
    ResponseFormat,
    Sampled,
    TextFormat,
)
from ashore.data.path import Arrival, ChoiceEnded, Urgency, Usage
from ashore.data.precision import FALLBACK, MIN_PRECISION, may_fall_back, min_precision


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """Details of the prompt tokens."""

    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """Details of the generated tokens."""

    reasoning_tokens: int
    accepted_prediction_tokens: int
    """Tokens that look-up proposed, from the prompt or earlier answers."""
    rejected_prediction_tokens: int
    """Proposed tokens that the answer does not have. Not in `completion_tokens`, and not counted on budgets."""


class UsageOut(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens used by a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
    prompt_cache_hit_tokens: int
    """The same as `cached_tokens`, by DeepSeek's name; the next is the rest of the prompt."""
    prompt_cache_miss_tokens: int
    precision: str | msgspec.UnsetType = msgspec.UNSET
    """What computed the answer, of a model with a ladder: `fp16`, or `fp16>int8` where a less exact one took over."""
    moved: str | msgspec.UnsetType = msgspec.UNSET
    """Where it went on after the replica that it had begun on was lost: `chat-0>chat-1`."""


def usage_out(usage: Usage) -> UsageOut:
    """Return usage in OpenAI's form."""
    return UsageOut(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(usage.cached_tokens),
        completion_tokens_details=CompletionTokensDetails(
            usage.reasoning_tokens, usage.accepted_tokens, usage.rejected_tokens
        ),
        prompt_cache_hit_tokens=usage.cached_tokens,
        prompt_cache_miss_tokens=usage.prompt_tokens - usage.cached_tokens,
        precision=usage.precision or msgspec.UNSET,
        moved=usage.moved_in_public or msgspec.UNSET,
    )


def asked_sampling(request: Sampled) -> Sampling:
    """Return the requested sampling; missing fields keep their defaults.

    Raises:
        InvalidRequest: it uses a parameter of other servers that no engine here supports.
    """
    for name, usual in USUAL:
        if getattr(request, name) not in (None, usual):
            raise InvalidRequest(
                f"{name} is {json.dumps(not usual)}; ashore supports only {json.dumps(usual)}",
                hint="omit it",
                param=name,
            )
    return sampling_of(request, logit_bias=_biases(request.logit_bias or {}))


def stops_of(stop: str | list[str] | None) -> tuple[str, ...]:
    """Return the stop strings, each once."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(dict.fromkeys(stop))


def token_stops_of(request: Sampled) -> tuple[int, ...]:
    """Return `stop_token_ids`, each once. They end an answer with `ignore_eos`, too, as in vLLM."""
    return tuple(dict.fromkeys(request.stop_token_ids or ()))


def grammar_of(wanted: ResponseFormat | None) -> Grammar | None:
    """Return the grammar of `response_format`, None for any text."""
    match wanted:
        case None | TextFormat():
            return None
        case JsonObjectFormat():
            return Grammar(kind="json_object")
        case JsonSchemaFormat():
            if wanted.json_schema.schema is None:
                return Grammar(kind="json_object")
            return schema_grammar(wanted.json_schema.schema, "response_format.json_schema.schema")
        case RegexFormat():
            check_schema_size(len(wanted.pattern.encode()), "response_format.pattern")
            return Grammar(kind="regex", text=wanted.pattern)
        case GrammarFormat():
            check_schema_size(len(wanted.grammar.encode()), "response_format.grammar")
            return Grammar(kind="lark", text=wanted.grammar)


def schema_grammar(schema: object, param: str) -> Grammar:
    """Return the grammar of a JSON schema, given in the request at `param`."""
    text = msgspec.json.encode(schema)
    check_schema_size(len(text), param)
    return Grammar(kind="json_schema", text=text.decode())


def prompts_of(inputs: Inputs, param: str) -> list[str | tuple[int, ...]]:
    """Return the inputs one by one, whichever of the four forms was used.

    Raises:
        InvalidRequest: texts and token ids are mixed, or there are too many.
    """
    if isinstance(inputs, str):
        return [inputs]
    if all(isinstance(one, int) for one in inputs):
        return [tuple(one for one in inputs if isinstance(one, int))]
    if len(inputs) > MOST_TEXTS:
        raise InvalidRequest(
            f"{param} has {len(inputs)} entries; the limit is {MOST_TEXTS}",
            hint="split it into several requests",
            param=param,
        )
    if all(isinstance(one, str) for one in inputs):
        return [one for one in inputs if isinstance(one, str)]
    if all(isinstance(one, list) for one in inputs):
        return [tuple(one) for one in inputs if isinstance(one, list)]
    raise InvalidRequest(f"{param} mixes texts and token ids", hint="send only texts or only token ids", param=param)


class Terms(TypedDict):
    """The fields of a GenerationRequest that no body has: they stand in the headers, or are known of the call."""

    request_id: RequestId
    priority: int
    urgency: Urgency
    deadline_s: float | None
    min_precision: str
    fallback: bool
    cache: Directive
    arrival: Arrival


def terms_of(exchange: Exchange) -> Terms:
    """Return the terms of a request, whichever API it came by.

    Raises:
        InvalidRequest: a header is malformed.
    """
    return Terms(
        request_id=exchange.request_id,
        priority=priority_of(exchange),
        urgency=exchange.urgency,
        deadline_s=deadline_of(exchange),
        min_precision=min_precision(exchange.headers.get(MIN_PRECISION.encode(), b"").decode("latin-1")),
        fallback=may_fall_back(exchange.headers.get(FALLBACK.encode(), b"").decode("latin-1")),
        cache=_directive_for(exchange),
        arrival=exchange.arrival,
    )


def priority_of(exchange: Exchange) -> int:
    """Return the value of `x-ashore-priority`, 0 without it.

    Raises:
        InvalidRequest: it is not a whole number between -100 and 100.
    """
    given = exchange.headers.get(b"x-ashore-priority")
    if given is None:
        return 0
    try:
        priority = int(given)
    except ValueError as fault:
        raise _bad_header(
            "x-ashore-priority", given, f"a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}"
        ) from fault
    if not -MOST_PRIORITY <= priority <= MOST_PRIORITY:
        raise _bad_header("x-ashore-priority", given, f"a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}")
    return priority


def deadline_of(exchange: Exchange) -> float | None:
    """Return the value of `x-ashore-deadline-ms` in seconds, None without it.

    Raises:
        InvalidRequest: it is not a positive number.
    """
    given = exchange.headers.get(b"x-ashore-deadline-ms")
    if given is None:
        return None
    milliseconds = whole_number(given)
    if milliseconds is None or not 0 < milliseconds <= 86_400_000:
        raise _bad_header("x-ashore-deadline-ms", given, "milliseconds, 1 to 86400000")
    return milliseconds / 1e3


def _directive_for(exchange: Exchange) -> Directive:
    """Return the cache directive of `Cache-Control` and `x-ashore-cache` (`use`, `off`).

    Raises:
        InvalidRequest: `x-ashore-cache` is another word.
    """
    given = exchange.headers.get(b"x-ashore-cache", b"")
    if given not in (b"", b"use", b"off"):
        raise _bad_header("x-ashore-cache", given, "use or off")
    return directive_of(exchange.headers.get(b"cache-control", b"").decode("latin-1"), given.decode())


def cut_of(ended: ChoiceEnded) -> str | msgspec.UnsetType:
    """Return the field `cut_by` of a choice; omitted if it ended by itself."""
    return ended.cut_by or msgspec.UNSET


def cut_json(ended: ChoiceEnded) -> bytes:
    """Return the same as the last field of a JSON object, with the comma before it."""
    return b',"cut_by":"%b"' % ended.cut_by.encode() if ended.cut_by else b""


def id_for(prefix: str, request_id: RequestId) -> str:
    """Return the id of an answer, derived from that of its request so that logs match."""
    return prefix + request_id.removeprefix("req_")


def _biases(given: dict[str, float]) -> dict[int, float]:
    try:
        return {int(token): bias for token, bias in given.items()}
    except ValueError as fault:
        raise InvalidRequest(
            "a key of logit_bias is not a token id",
            hint="use token ids as keys, as quoted whole numbers",
            param="logit_bias",
        ) from fault


def _bad_header(name: str, given: bytes, expected: str) -> InvalidRequest:
    return InvalidRequest(
        f"the header {name} is {given[:40].decode('latin-1')!r}; expected {expected}",
        hint="correct the header, or omit it",
        param=name,
    )
