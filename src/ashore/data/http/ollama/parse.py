"""Converts Ollama requests to a GenerationRequest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.errors import InvalidRequest
from ashore.core.sampling import left_out, sampling_of
from ashore.data.engines import Grammar
from ashore.data.http.exchange import Exchange
from ashore.data.http.ollama.types import OllamaChatRequest, OllamaGenerateRequest, Options, ToolIn, TurnIn
from ashore.data.http.openai.common import schema_grammar, stops_of, terms_of
from ashore.data.http.tools import tool_spec
from ashore.data.path import GenerationRequest


def to_chat(request: OllamaChatRequest, model: str, exchange: Exchange) -> GenerationRequest:
    """Return the request of `/api/chat` for the model of this name.

    Raises:
        InvalidRequest: its parts contradict each other.
    """
    return GenerationRequest(
        messages=turns_of(request.messages),
        tools=tuple(_tool(tool) for tool in request.tools or ()),
        **_common(request, model, exchange),
    )


def to_generate(request: OllamaGenerateRequest, model: str, exchange: Exchange) -> GenerationRequest:
    """Return the request of `/api/generate` for the model of this name: one turn, or a text to continue.

    Raises:
        InvalidRequest: its parts contradict each other.
    """
    common, prompt = _common(request, model, exchange), request.prompt or ""
    if request.suffix:
        return GenerationRequest(prompt=prompt, suffix=request.suffix, **common)
    if request.raw:
        if request.system:
            raise InvalidRequest("raw leaves no place for system", hint="write it into the prompt", param="system")
        return GenerationRequest(prompt=prompt, **common)
    system = [Message(role="system", content=request.system)] if request.system else []
    return GenerationRequest(messages=(*system, Message(role="user", content=prompt)), **common)


def _common(request: OllamaChatRequest | OllamaGenerateRequest, model: str, exchange: Exchange) -> dict[str, Any]:
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
    options = request.options or Options()
    most = options.num_predict
    return {
        "model": model,
        "sampling": sampling_of(options),
        "left_out": left_out(options),
        "max_tokens": most if most is not None and most > 0 else None,
        "stop": stops_of(options.stop),
        "top_logprobs": (request.top_logprobs or 0) if request.logprobs else None,
        "grammar": _grammar(request.format),
        "template_options": _template_options(request.think),
        **terms_of(exchange),
    }


def turns_of(turns: Sequence[TurnIn]) -> tuple[Message, ...]:
    """Return the turns of a conversation. Ollama's tool calls have no ids; a tool result belongs to the first open
    call of its name."""
    messages: list[Message] = []
    unanswered: list[tuple[str, str]] = []
    for at, turn in enumerate(turns):
        calls = []
        for number, call in enumerate(turn.tool_calls or ()):
            call_id = call.id or f"call_{at}_{number}"
            unanswered.append((call_id, call.function.name))
            arguments = msgspec.json.encode(call.function.arguments).decode()
            calls.append(ToolCall(id=call_id, name=call.function.name, arguments=arguments))
        messages.append(
            Message(
                role=turn.role,
                content=turn.content or "",
                reasoning=turn.thinking or "",
                tool_calls=tuple(calls),
                tool_call_id=_answered(turn, unanswered) if turn.role == "tool" else "",
                name=turn.tool_name or "",
            )
        )
    return tuple(messages)


def _answered(turn: TurnIn, unanswered: list[tuple[str, str]]) -> str:
    """Return and remove the id of the call that a tool result belongs to; a new one if there is no such call."""
    for one in unanswered:
        if one[0] == turn.tool_call_id or (turn.tool_call_id is None and turn.tool_name in (None, one[1])):
            unanswered.remove(one)
            return one[0]
    return turn.tool_call_id or "call"


def _tool(tool: ToolIn) -> ToolSpec:
    function = tool.function
    return tool_spec(function.name, function.description, function.parameters, strict=None)


def _grammar(wanted: str | dict[str, Any] | None) -> Grammar | None:
    if not wanted:
        return None
    return Grammar(kind="json_object") if isinstance(wanted, str) else schema_grammar(wanted, "format")


def _template_options(think: bool | str | None) -> dict[str, object]:
    """Return the template variables for reasoning: `enable_thinking` in Qwen's, `thinking` in DeepSeek's."""
    if think is None:
        return {}
    options: dict[str, object] = {"enable_thinking": bool(think), "thinking": bool(think)}
    return options | ({"reasoning_effort": think} if isinstance(think, str) else {})
