"""Converts Anthropic requests to a GenerationRequest."""

from __future__ import annotations

import msgspec

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.errors import InvalidRequest
from ashore.core.sampling import left_out, sampling_of
from ashore.data.http.anthropic.types import (
    CountRequest,
    MessageIn,
    MessagesRequest,
    TextBlock,
    ThinkingBlock,
    ToolChoice,
    ToolIn,
    ToolResultBlock,
    ToolUseBlock,
)
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.common import (
    schema_grammar,
    terms_of,
)
from ashore.data.http.tools import tool_spec
from ashore.data.path import GenerationRequest


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def to_generation(request: MessagesRequest, exchange: Exchange) -> GenerationRequest:
    """Return the generation request.

    Raises:
        InvalidRequest: its parts contradict each other.
    """
    return GenerationRequest(
        model=request.model,
        messages=conversation(request),
        tools=tuple(_tool(tool) for tool in request.tools or ()),
        tool_choice=_tool_choice(request.tool_choice),
        one_call=bool(request.tool_choice and request.tool_choice.disable_parallel_tool_use),
        sampling=sampling_of(request),
        left_out=left_out(request),
        max_tokens=request.max_tokens,
        stop=tuple(dict.fromkeys(request.stop_sequences or ())),
        grammar=None
        if request.output_format is None
        else schema_grammar(request.output_format.schema, "output_format"),
        **terms_of(exchange),
        template_options=_template_options(request),
    )


def to_count(request: CountRequest, exchange: Exchange) -> GenerationRequest:
    """Return a request whose prompt is to be counted."""
    return GenerationRequest(
        request_id=exchange.request_id,
        model=request.model,
        messages=conversation(request),
        tools=tuple(_tool(tool) for tool in request.tools or ()),
        tool_choice=_tool_choice(request.tool_choice),
        template_options=_template_options(request),
    )


def conversation(request: CountRequest) -> tuple[Message, ...]:
    """Return all turns, the system text first."""
    messages: list[Message] = []
    if request.system:
        messages.append(Message(role="system", content=text_of(request.system)))
    for at, message in enumerate(request.messages):
        messages.extend(_turn(message, at))
    return tuple(messages)


def text_of(content: str | list[TextBlock] | None) -> str:
    """Return the text of blocks, joined."""
    if content is None:
        return ""
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _turn(message: MessageIn, at: int) -> list[Message]:
    """Return one turn in our form: tool results become messages of their own, before the text."""
    if isinstance(message.content, str):
        return [Message(role=message.role, content=message.content)]
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for number, block in enumerate(message.content):
        match block:
            case TextBlock():
                texts.append(block.text)
            case ThinkingBlock():
                thoughts.append(block.thinking)
            case ToolUseBlock():
                _only_in("assistant", message, f"messages[{at}].content[{number}]")
                calls.append(ToolCall(id=block.id, name=block.name, arguments=_json(block.input or {})))
            case ToolResultBlock():
                _only_in("user", message, f"messages[{at}].content[{number}]")
                results.append(Message(role="tool", content=text_of(block.content), tool_call_id=block.tool_use_id))
            case _:
                continue  # redacted thinking
    if results and not texts:
        return results
    said = Message(role=message.role, content="\n".join(texts), reasoning="\n".join(thoughts), tool_calls=tuple(calls))
    return [*results, said]


def _only_in(role: str, message: MessageIn, path: str) -> None:
    if message.role != role:
        raise InvalidRequest(f"{path}: this block is allowed only in a message with role {role}", param=path)


def _tool(tool: ToolIn) -> ToolSpec:
    return tool_spec(tool.name, tool.description, tool.input_schema, strict=tool.strict)


def _tool_choice(choice: ToolChoice | None) -> str:
    if choice is None:
        return "auto"
    match choice.type:
        case "auto" | "none":
            return choice.type
        case "any":
            return "required"
        case "tool":
            if not choice.name:
                raise InvalidRequest("tool_choice of type 'tool' needs a name", param="tool_choice.name")
            return f"tool:{choice.name}"


def _template_options(request: CountRequest) -> dict[str, object]:
    """Return the template variables for reasoning: `enable_thinking` in Qwen's, `thinking` in DeepSeek's."""
    options: dict[str, object] = {} if request.effort is None else {"reasoning_effort": request.effort}
    if request.thinking is not None:
        wanted = request.thinking.type != "disabled"
        options |= {"enable_thinking": wanted, "thinking": wanted}
    return options
