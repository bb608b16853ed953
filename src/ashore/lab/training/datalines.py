"""The lines of a training file: JSONL in three forms, validated, each error with its line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from ashore.core.chat import Message, Role, ToolCall, ToolSpec

FORMS: Final = '{"messages": [...]}, {"prompt": "...", "completion": "..."} or {"text": "..."}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatExample:
    """A conversation; the assistant's turns are targets."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionExample:
    """A prompt and its completion; the completion is the target."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextExample:
    """Running text, all of which is a target."""

    text: str


Example = ChatExample | CompletionExample | TextExample


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] = ""
    description: str = ""
    parameters: dict[str, Any] | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    role: Role
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _Tool(msgspec.Struct):
    function: _Function


class _Line(msgspec.Struct):
    messages: list[_Message] | None = None
    tools: list[_Tool] | None = None
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None


def parse_example(line: bytes) -> Example:
    """Return the example of one line. Raises `ValueError` with what is wrong (msgspec's errors are such)."""
    parsed = msgspec.json.decode(line, type=_Line)
    forms = {"messages": parsed.messages, "prompt": parsed.prompt, "text": parsed.text}
    given = [name for name, value in forms.items() if value is not None]
    if len(given) != 1:
        raise ValueError(
            f"it has {' and '.join(given) or 'neither messages nor prompt nor text'}; expected exactly one of them"
        )
    if parsed.messages is not None:
        return _chat(parsed)
    if parsed.text is not None:
        if not parsed.text.strip():
            raise ValueError("its text is empty")
        return TextExample(text=parsed.text)
    if parsed.prompt is None or not parsed.completion:
        raise ValueError("a prompt has no completion")
    return CompletionExample(prompt=parsed.prompt, completion=parsed.completion)


def _chat(line: _Line) -> ChatExample:
    messages = tuple(map(_message, line.messages or ()))
    if not any(m.role == "assistant" and (m.content or m.tool_calls) for m in messages):
        raise ValueError("it has no assistant message, so there is nothing to learn")
    return ChatExample(messages=messages, tools=tuple(map(_tool, line.tools or ())))


def _message(given: _Message) -> Message:
    return Message(
        role=given.role,
        content=given.content or "",
        reasoning=given.reasoning_content or "",
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=_as_text(call.function.arguments))
            for call in given.tool_calls or ()
        ),
        tool_call_id=given.tool_call_id or "",
        name=given.name or "",
    )


def _tool(given: _Tool) -> ToolSpec:
    function = given.function
    plain = ToolSpec(name=function.name, description=function.description)
    return plain if function.parameters is None else replace(plain, parameters=_as_text(function.parameters))


def _as_text(value: str | dict[str, Any]) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
