"""Attributes of a request's span. Pure.

Names are those of OpenTelemetry's semantic conventions for generative AI, 1.37 and later. Times have the names of
vLLM's traces, and attributes of ashore's own begin with `ashore.`. Source:
opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans; vllm/tracing, `SpanAttributes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ashore.data.audit import RequestNote
from ashore.data.path import GenerationRequest

Attributes = dict[str, str | int | float | bool | list[str]]

INPUT: Final = "gen_ai.input.messages"
OUTPUT: Final = "gen_ai.output.messages"
MOST_MESSAGES: Final = 64
"""Limit of messages per span: the last ones of a conversation."""
MOST_CHARS: Final = 16_384
"""Limit of one text in a span; the rest is cut."""

_encode = msgspec.json.Encoder().encode


class Part(msgspec.Struct, omit_defaults=True):
    """A part of a message, as in the conventions."""

    type: str
    content: str = ""
    id: str = ""
    name: str = ""
    arguments: str = ""
    response: str = ""


class Said(msgspec.Struct, omit_defaults=True):
    """A message."""

    role: str
    parts: list[Part]
    finish_reason: str = ""


def asked_attributes(request: GenerationRequest) -> Attributes:
    """Return the attributes of a request, without its texts."""
    sampling = request.sampling
    found: Attributes = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
        "gen_ai.request.presence_penalty": sampling.presence_penalty,
    }
    if request.max_tokens is not None:
        found["gen_ai.request.max_tokens"] = request.max_tokens
    if sampling.top_k > 0:
        found["gen_ai.request.top_k"] = sampling.top_k
    if sampling.seed is not None:
        found["gen_ai.request.seed"] = sampling.seed
    if request.num_choices != 1:
        found["gen_ai.request.choice.count"] = request.num_choices
    if request.grammar is not None:
        found["gen_ai.output.type"] = "json" if request.grammar.kind == "json_schema" else "text"
    return found


def note_attributes(note: RequestNote) -> Attributes:
    """Return the attributes of an audit note. The caller appears by tenant and key, never by name."""
    found: Attributes = {
        "gen_ai.request.model": note.alias,
        "gen_ai.response.id": note.request_id,
        "gen_ai.usage.input_tokens": note.prompt_tokens,
        "gen_ai.usage.output_tokens": note.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": note.cached_tokens,
        "http.route": note.route,
        "ashore.tenant": note.tenant,
        "ashore.key": note.key,
        "ashore.outcome": note.outcome,
        "ashore.cache": note.cache,
    }
    if note.release:
        found["gen_ai.response.model"] = note.release
    if note.error_code:
        found["error.type"] = note.error_code
    for kind, count in note.masked.items():
        found[f"ashore.masked.{kind}"] = count
    return found


def input_messages(request: GenerationRequest) -> str:
    """Return the conversation, or the raw prompt, as the model sees it."""
    if isinstance(request.prompt, str):
        return _told([Said("user", [_text(request.prompt)])])
    if request.prompt is not None:
        return _told([])
    said = []
    for message in request.messages[-MOST_MESSAGES:]:
        parts = [_text(message.reasoning, "reasoning")] if message.reasoning else []
        if message.role == "tool":
            parts.append(Part("tool_call_response", id=message.tool_call_id or "", response=_cut(message.content)))
        elif message.content:
            parts.append(_text(message.content))
        parts += [
            Part("tool_call", id=call.id, name=call.name, arguments=_cut(call.arguments)) for call in message.tool_calls
        ]
        said.append(Said(message.role, parts))
    return _told(said)


def output_messages(choices: Sequence[tuple[str, str, str, str]]) -> str:
    """Return the choices of an answer, each with its reasoning, text, tool calls and finish reason."""
    said = []
    for reasoning, text, calls, reason in choices:
        parts = [_text(reasoning, "reasoning")] if reasoning else []
        parts += [_text(text)] if text else []
        parts += [Part("tool_call", arguments=_cut(calls))] if calls else []
        said.append(Said("assistant", parts, reason))
    return _told(said)


def texts_of(messages: list[Said]) -> list[str]:
    """Return every text in messages, in the order of `with_texts`."""
    return [text for one in messages for part in one.parts for text in (part.content, part.arguments, part.response)]


def with_texts(messages: list[Said], texts: Sequence[str]) -> str:
    """Return messages with their texts replaced."""
    left = iter(texts)
    for one in messages:
        for part in one.parts:
            part.content, part.arguments, part.response = next(left), next(left), next(left)
    return _told(messages)


def read_messages(told: str) -> list[Said]:
    """Return the messages in an attribute."""
    return msgspec.json.decode(told, type=list[Said])


def _text(text: str, kind: str = "text") -> Part:
    return Part(kind, content=_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}…"


def _told(messages: list[Said]) -> str:
    try:
        return _encode(messages).decode()
    except UnicodeEncodeError:  # lone surrogates: a text that no collector could read
        return "[]"
