"""Requests of the OpenAI routes, as msgspec structures. They are also the source of `/openapi.json`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ashore.core.sampling import SamplingIn
from ashore.data.bounds import (
    MOST_CHOICES,
    MOST_MESSAGES,
    MOST_NAME_CHARS,
    MOST_STOP_CHARS,
    MOST_STOPS,
    MOST_TOKENS,
    MOST_TOOL_NAME_CHARS,
    MOST_TOOLS,
    MOST_TOP_LOGPROBS,
    TOOL_NAME,
)

MOST_STOP_IDS: Final = 64
MOST_SALT_CHARS: Final = 256
MOST_SUFFIX_CHARS: Final = 1 << 22
MOST_INPUTS: Final = 1_000_000
"""Token ids of one prompt, at most; the number of texts is bounded by `MOST_TEXTS`."""

Name = Annotated[str, Meta(min_length=1, max_length=MOST_NAME_CHARS)]
ToolName = Annotated[str, Meta(min_length=1, max_length=MOST_TOOL_NAME_CHARS, pattern=f"^{TOOL_NAME}$")]
Choices = Annotated[int, Meta(ge=1, le=MOST_CHOICES)]
TokenCount = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
StopText = Annotated[str, Meta(min_length=1, max_length=MOST_STOP_CHARS)]
Stops = Annotated[list[StopText], Meta(max_length=MOST_STOPS)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Effort = Annotated[str, Meta(max_length=64)]
"""How long a model is to think: `low`, `high` and what else its template knows."""
Inputs = str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1, max_length=MOST_INPUTS)]
"""A text, texts, token ids, or lists of token ids; not mixed."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class TextPart(_Strict, frozen=True, kw_only=True, tag="text", tag_field="type"):
    """A piece of text in a message. Other kinds of parts are refused: models here read text."""

    text: str


class ToolFunctionCall(_Strict, frozen=True, kw_only=True):
    """Which function the model called."""

    name: ToolName
    arguments: str = "{}"


class CustomToolCall(_Strict, frozen=True, kw_only=True):
    """Which tool of free text the model called, and with what."""

    name: ToolName
    input: str = ""


class _EitherTool(_Strict, frozen=True, kw_only=True):
    """What has a function or a tool of free text, as its type says."""

    type: Literal["function", "custom"] = "function"

    def __post_init__(self) -> None:
        if getattr(self, self.type) is None:
            raise ValueError(f"Object missing required field `{self.type}`")


class ToolCallIn(_EitherTool, frozen=True, kw_only=True):
    """A tool call of an earlier turn."""

    id: str = ""
    function: ToolFunctionCall | None = None
    custom: CustomToolCall | None = None
    index: int | None = None


class ChatMessage(_Strict, frozen=True, kw_only=True):
    """One turn. The last four are what clients send back of an answer; they are ignored."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallIn] | None = None
    tool_call_id: str | None = None
    prefix: bool | None = None
    """Of the last message, where it is the assistant's: the answer goes on where it ends."""
    reasoning_content: str | None = None
    refusal: Any = None
    annotations: Any = None
    audio: None = None
    function_call: None = None


class FunctionSpec(_Strict, frozen=True, kw_only=True):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomSpec(_Strict, frozen=True, kw_only=True):
    """A tool that takes free text; the model is told of a function of one string. A grammar is told, not enforced."""

    name: ToolName
    description: str | None = None
    format: Any = None


class ToolIn(_EitherTool, frozen=True, kw_only=True):
    """A tool that the model may call."""

    function: FunctionSpec | None = None
    custom: CustomSpec | None = None


class NamedFunction(_Strict, frozen=True, kw_only=True):
    """A function by its name."""

    name: str


class NamedTool(_EitherTool, frozen=True, kw_only=True):
    """The one tool that must be called."""

    function: NamedFunction | None = None
    custom: NamedFunction | None = None


class JsonSchemaSpec(_Strict, frozen=True, kw_only=True):
    """The schema that the answer must follow."""

    name: str | None = None
    schema: dict[str, Any] | bool | None = None
    description: str | None = None
    strict: bool | None = None


class TextFormat(_Strict, frozen=True, kw_only=True, tag="text", tag_field="type"):
    """Any text."""


class JsonObjectFormat(_Strict, frozen=True, kw_only=True, tag="json_object", tag_field="type"):
    """Any JSON object."""


class JsonSchemaFormat(_Strict, frozen=True, kw_only=True, tag="json_schema", tag_field="type"):
    """JSON that follows a schema."""

    json_schema: JsonSchemaSpec


class RegexFormat(_Strict, frozen=True, kw_only=True, tag="regex", tag_field="type"):
    """Text that a regular expression describes as a whole."""

    pattern: str


class GrammarFormat(_Strict, frozen=True, kw_only=True, tag="grammar", tag_field="type"):
    """Text of a language: a grammar in Lark's form, or in GBNF (`root ::= …`)."""

    grammar: str


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | GrammarFormat


class StreamOptions(_Strict, frozen=True, kw_only=True):
    """How to stream. `include_obfuscation` is taken and ignored: nothing is padded."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampled(SamplingIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chat and plain completions share. The last block is taken and ignored; of that before it, `USUAL` is."""

    model: Name
    stop: StopText | Stops | None = None
    n: Choices | None = None
    max_tokens: TokenCount | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    lookup: bool | None = None
    """False: propose no tokens from the prompt and earlier answers. The answer is the same; for benchmarks."""
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=MOST_STOP_IDS)] | None = None
    response_format: ResponseFormat | None = None
    cache_salt: Annotated[str, Meta(max_length=MOST_SALT_CHARS)] | None = None
    """Blocks of the prefix cache are shared only between requests of one tenant with the same salt."""

    no_stop_trim: bool | None = None
    continue_final_message: bool | None = None
    return_hidden_states: bool | None = None
    skip_special_tokens: bool | None = None
    separate_reasoning: bool | None = None
    stream_reasoning: bool | None = None
    include_reasoning: bool | None = None

    user: Any = None
    store: Any = None
    metadata: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None


USUAL: Final = (
    ("no_stop_trim", False),
    ("return_hidden_states", False),
    ("skip_special_tokens", True),
    ("separate_reasoning", True),
    ("stream_reasoning", True),
    ("include_reasoning", True),
)
"""Fields of other servers and what they are by default there, which is what ashore does. Routers in front of several
servers write them into each request (vllm-router 0.1.17 all of them)."""


class ChatRequest(Sampled, frozen=True, kw_only=True):
    """Body of `POST /v1/chat/completions`. The last block is taken and ignored."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[ToolIn], Meta(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    """False: one call at most."""
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Effort | None = None
    """Given to the template as a parameter of this name."""
    thinking_budget: TokenCount | None = None
    """Tokens after which reasoning is ended by force, where the model's template knows `<think>`."""
    modalities: list[Literal["text"]] | None = None

    verbosity: Any = None


class CompletionRequest(Sampled, frozen=True, kw_only=True):
    """Body of `POST /v1/completions`. `best_of` must equal `n`. The last block is taken and ignored."""

    prompt: Inputs
    begun: TokenCount | None = None
    """So many of the last token ids of `prompt` are the beginning of the answer: penalties, the draws of the seed and
    the grammar go on behind them."""
    max_tokens: Annotated[int, Meta(ge=0, le=MOST_TOKENS)] | None = None
    """0 with `echo`: the prompt alone, with its log-probabilities if `logprobs` is given."""
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    best_of: Choices | None = None
    suffix: Annotated[str, Meta(max_length=MOST_SUFFIX_CHARS)] | None = None
    """What follows the gap that the answer fills, for models that were trained to; `prompt` stands before it."""
    return_token_ids: bool | None = None
    """Give `token_ids` beside the text of each piece, and the token that ended the answer as `stop_reason`."""
    return_tokens_as_token_ids: bool | None = None
    """Name tokens in `logprobs` as `token_id:N`."""

    parallel_tool_calls: Any = None


class EmbeddingRequest(_Strict, frozen=True, kw_only=True):
    """Body of `POST /v1/embeddings`."""

    model: Name
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    """Only such as the model was trained for."""
    input_type: Annotated[str, Meta(max_length=64)] | None = None
    """`query`, `document`, or the name of a prompt of the model."""
    user: Any = None
