"""`/v1/responses`: the request, its items, and the response object."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ashore.core.sampling import Probability, Temperature
from ashore.data.bounds import MOST_MESSAGES, MOST_TOOLS, MOST_TOP_LOGPROBS
from ashore.data.http.openai.types import (
    Effort,
    JsonObjectFormat,
    Name,
    StreamOptions,
    TextFormat,
    TokenCount,
    ToolName,
)

Includable = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]
"""The second is taken and ignored: reasoning is given in clear."""
ItemId = Annotated[str, Meta(max_length=200)]
"""A conversation compares a new one with all that it has."""
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
"""Of a client, with OpenAI's bounds: lists hold that of many objects in memory."""
Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class InputText(_Strict, frozen=True, kw_only=True, tag="input_text", tag_field="type"):
    """Text that somebody wrote."""

    text: str


class OutputText(_Strict, frozen=True, kw_only=True, tag="output_text", tag_field="type"):
    """Text of an earlier answer, sent back. Its last two fields are ignored."""

    text: str
    annotations: Any = None
    logprobs: Any = None


class MessageItem(_Strict, frozen=True, kw_only=True):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | OutputText]
    id: ItemId | None = None
    status: str | None = None
    phase: Any = None


class FunctionCallItem(_Strict, frozen=True, kw_only=True):
    """A call that the model made in an earlier answer."""

    type: Literal["function_call"]
    call_id: str
    name: ToolName
    arguments: str
    namespace: str | None = None
    id: ItemId | None = None
    status: str | None = None


class FunctionOutputItem(_Strict, frozen=True, kw_only=True):
    """What the called function gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText]
    id: ItemId | None = None
    status: str | None = None


class CustomCallItem(_Strict, frozen=True, kw_only=True):
    """A call of a tool of free text that the model made in an earlier answer."""

    type: Literal["custom_tool_call"]
    call_id: str
    name: ToolName
    input: str
    namespace: str | None = None
    id: ItemId | None = None
    status: str | None = None


class CustomOutputItem(_Strict, frozen=True, kw_only=True):
    """What the tool of free text gave."""

    type: Literal["custom_tool_call_output"]
    call_id: str
    output: str | list[InputText]
    name: str | None = None
    id: ItemId | None = None
    status: str | None = None


class ReasoningText(_Strict, frozen=True, kw_only=True, tag="reasoning_text", tag_field="type"):
    """A piece of reasoning."""

    text: str


class ReasoningItem(_Strict, frozen=True, kw_only=True):
    """What the model thought before an earlier answer."""

    type: Literal["reasoning"]
    summary: list[Any] = []
    content: list[ReasoningText] | None = None
    id: ItemId | None = None
    encrypted_content: None = None
    status: str | None = None


class McpCallItem(_Strict, frozen=True, kw_only=True):
    """A call of a tool of another server in an earlier answer, with what came of it."""

    type: Literal["mcp_call"]
    server_label: str
    name: ToolName
    arguments: str
    output: str | None = None
    error: Any = None
    id: ItemId | None = None
    status: str | None = None
    approval_request_id: Any = None


class McpListItem(_Strict, frozen=True, kw_only=True):
    """What tools a server had for an earlier answer. Taken and ignored: a request names its tools."""

    type: Literal["mcp_list_tools"]
    server_label: str
    tools: list[Any]
    error: Any = None
    id: ItemId | None = None


Item = (
    MessageItem
    | FunctionCallItem
    | FunctionOutputItem
    | CustomCallItem
    | CustomOutputItem
    | McpCallItem
    | McpListItem
    | ReasoningItem
)


class FunctionTool(_Strict, frozen=True, kw_only=True, tag="function", tag_field="type"):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomTool(_Strict, frozen=True, kw_only=True, tag="custom", tag_field="type"):
    """A tool that takes free text; the model is told of a function of one string. A grammar is told, not enforced."""

    name: ToolName
    description: str | None = None
    format: Any = None


class NamespaceTool(_Strict, frozen=True, kw_only=True, tag="namespace", tag_field="type"):
    """Tools of one origin; the model is told of each by itself."""

    name: str
    description: str | None = None
    tools: Annotated[list[FunctionTool | CustomTool], Meta(max_length=MOST_TOOLS)]


class McpFilter(_Strict, frozen=True, kw_only=True):
    """Which tools of a server the model is told of."""

    tool_names: list[ToolName] | None = None
    read_only: bool | None = None
    """Whether the server says of them that they only read."""


class McpTool(_Strict, frozen=True, kw_only=True, tag="mcp", tag_field="type"):
    """The tools of a `[[mcp.server]]`. `server_description` is taken and ignored, the last block is refused."""

    server_label: str
    allowed_tools: Annotated[list[ToolName], Meta(max_length=MOST_TOOLS)] | McpFilter | None = None
    require_approval: Any = None
    """Only `never`."""
    server_description: str | None = None

    server_url: Any = None
    connector_id: Any = None
    tunnel_id: Any = None
    authorization: Any = None
    headers: Any = None


class NamedFunctionTool(_Strict, frozen=True, kw_only=True):
    """The one tool that must be called."""

    type: Literal["function", "custom"] = "function"
    name: str


class FlatSchemaFormat(_Strict, frozen=True, kw_only=True, tag="json_schema", tag_field="type"):
    """JSON that follows a schema."""

    name: str | None = None
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(_Strict, frozen=True, kw_only=True):
    """The form of the answer. `verbosity` is taken and ignored."""

    format: TextFormat | JsonObjectFormat | FlatSchemaFormat | None = None
    verbosity: Any = None


class ReasoningConfig(_Strict, frozen=True, kw_only=True):
    """How long to think, which the model's template may heed. The others are taken and given back."""

    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ConversationRef(_Strict, frozen=True, kw_only=True):
    """A conversation by its id."""

    id: str


class ResponsesRequest(_Strict, frozen=True, kw_only=True):
    """Body of `POST /v1/responses`. The last block is taken and ignored."""

    model: Name
    input: str | Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MOST_MESSAGES)]
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    """What was said before; the input and the answer are added to it. Not together with `previous_response_id`."""
    background: bool | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: TokenCount | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[FunctionTool | CustomTool | NamespaceTool | McpTool], Meta(max_length=MOST_TOOLS)] | None = (
        None
    )
    tool_choice: Literal["auto", "none", "required"] | NamedFunctionTool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Literal["disabled"] | None = None
    include: Annotated[list[Includable], Meta(max_length=8)] | None = None
    metadata: Metadata | None = None
    parallel_tool_calls: bool | None = None
    """False: one call at most."""
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    """Of tools of other servers; there is a lower limit."""

    user: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None

    @property
    def conversation_id(self) -> str:
        """Id of the conversation, empty where there is none."""
        if self.conversation is None:
            return ""
        return self.conversation if isinstance(self.conversation, str) else self.conversation.id


class InputDetails(msgspec.Struct, frozen=True):
    """Details of the prompt tokens."""

    cached_tokens: int


class OutputDetails(msgspec.Struct, frozen=True):
    """Details of the generated tokens."""

    reasoning_tokens: int


class ResponsesUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens used."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(msgspec.Struct, frozen=True, kw_only=True):
    """Why a response is incomplete."""

    reason: str
    cut_by: str | msgspec.UnsetType = msgspec.UNSET
    """`deadline` or `budget`, where one of them ended it."""


class ResponseOut(msgspec.Struct, frozen=True, kw_only=True):
    """One response."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    background: bool
    completed_at: int | None = None
    error: ResponseFault | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None
    max_output_tokens: int | None
    model: str
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: dict[str, str | None]
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_p: float
    top_logprobs: int = 0
    truncation: Literal["disabled"] = "disabled"
    usage: ResponsesUsage | None = None
    metadata: dict[str, str]
    conversation: ConversationRef | msgspec.UnsetType = msgspec.UNSET


class ResponseDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `DELETE /v1/responses/{id}`."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/responses/input_tokens`."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class ItemList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/responses/{id}/input_items`."""

    object: Literal["list"] = "list"
    data: list[msgspec.Raw]
    has_more: bool
    first_id: str | None
    last_id: str | None
