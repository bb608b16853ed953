"""Chat messages in the internal form, independent of the client's protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]

LONGEST_TOKEN_BYTES: Final = 128
"""A token of the vocabularies in use stands for no more bytes of text: their longest are runs of spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One tool call of the model."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """One tool that the model may call."""

    name: str
    description: str = ""
    parameters: str = '{"type":"object","properties":{}}'
    """JSON schema of the arguments, as JSON text."""
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""


def openai_message(one: Message) -> dict[str, Any]:
    """Return a message in OpenAI's form."""
    said: dict[str, Any] = {"role": one.role, "content": one.content}
    if one.name:
        said["name"] = one.name
    if one.tool_call_id:
        said["tool_call_id"] = one.tool_call_id
    if one.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in one.tool_calls
        ]
    return said


def openai_tools(tools: Iterable[ToolSpec], choice: str) -> dict[str, Any]:
    """Return the fields for tools in OpenAI's form. `choice`: a word of that form, or `function:NAME`."""
    kind, _, named = choice.partition(":")
    return {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": msgspec.json.decode(tool.parameters),
                },
            }
            for tool in tools
        ],
        "tool_choice": {"type": "function", "function": {"name": named}} if named else kind,
    }
