"""Requests and answers of `/v1/messages`, as msgspec structures. `cache_control` and the like are taken and ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ashore.core.sampling import MOST_TOP_K, Probability
from ashore.data.bounds import MOST_MESSAGES, MOST_STOPS, MOST_TOOLS
from ashore.data.http.openai.types import Effort, Name, StopText, TokenCount, ToolName


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class TextBlock(_Strict, frozen=True, kw_only=True, tag="text", tag_field="type"):
    """A piece of text."""

    text: str
    cache_control: Any = None
    citations: Any = None


class ThinkingBlock(_Strict, frozen=True, kw_only=True, tag="thinking", tag_field="type"):
    """Reasoning of an earlier turn."""

    thinking: str
    signature: str = ""


class RedactedThinkingBlock(_Strict, frozen=True, kw_only=True, tag="redacted_thinking", tag_field="type"):
    """Reasoning that another server hid; nothing can be made of it."""

    data: str = ""


class ToolUseBlock(_Strict, frozen=True, kw_only=True, tag="tool_use", tag_field="type"):
    """A tool call of an earlier turn."""

    id: str
    name: ToolName
    input: Any = None
    cache_control: Any = None
    caller: Any = None


class ToolResultBlock(_Strict, frozen=True, kw_only=True, tag="tool_result", tag_field="type"):
    """What a tool answered."""

    tool_use_id: str
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None
    cache_control: Any = None


Block = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock


class MessageIn(_Strict, frozen=True, kw_only=True):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ToolIn(_Strict, frozen=True, kw_only=True):
    """A tool that the model may call. Tools that Anthropic's servers run themselves are not there."""

    name: ToolName
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: Any = None
    eager_input_streaming: Any = None
    input_examples: Any = None


class ToolChoice(_Strict, frozen=True, kw_only=True):
    """Whether a tool must be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(_Strict, frozen=True, kw_only=True):
    """Whether the model may reason first; goes to the chat template, which may or may not heed it."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None
    display: str | None = None


class CountRequest(_Strict, frozen=True, kw_only=True):
    """Body of `POST /v1/messages/count_tokens`."""

    model: Name
    messages: Annotated[list[MessageIn], Meta(min_length=1, max_length=MOST_MESSAGES)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[ToolIn], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    effort: Effort | None = None
    """What `output_config.effort` says; goes to the chat template as `reasoning_effort`."""
    cache_control: Any = None


class OutputFormat(_Strict, frozen=True, kw_only=True):
    """The schema that the answer must follow."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """Body of `POST /v1/messages`."""

    max_tokens: TokenCount
    stop_sequences: Annotated[list[StopText], Meta(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    temperature: Probability | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=MOST_TOP_K)] | None = None
    output_format: OutputFormat | None = None
    """What `output_config.format` says."""
    metadata: Any = None
    service_tier: Any = None


class TextOut(msgspec.Struct, frozen=True, kw_only=True, tag="text", tag_field="type"):
    """A text block of the answer."""

    text: str
    citations: None = None


class ThinkingOut(msgspec.Struct, frozen=True, kw_only=True, tag="thinking", tag_field="type"):
    """A reasoning block. It is not signed: the signature is empty."""

    thinking: str
    signature: str = ""


class ToolUseOut(msgspec.Struct, frozen=True, kw_only=True, tag="tool_use", tag_field="type"):
    """A tool call."""

    id: str
    name: str
    input: Any


class UsageOut(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens used. `input_tokens` does not include tokens from the prefix cache."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int


StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class MessageOut(msgspec.Struct, frozen=True, kw_only=True, tag="message", tag_field="type"):
    """Answer of `POST /v1/messages`."""

    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[TextOut | ThinkingOut | ToolUseOut]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: UsageOut
    cut_by: str | msgspec.UnsetType = msgspec.UNSET
    """`deadline` or `budget`, where one of them ended it; the reason is `max_tokens` then."""


class CountOut(msgspec.Struct, frozen=True):
    """Answer of `POST /v1/messages/count_tokens`."""

    input_tokens: int
