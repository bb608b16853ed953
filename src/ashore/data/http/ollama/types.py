"""Requests and answers of Ollama's API, version 0.13."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ashore.core.sampling import SamplingIn
from ashore.data.bounds import MOST_MESSAGES, MOST_TEXTS, MOST_TOKENS, MOST_TOOLS, MOST_TOP_LOGPROBS
from ashore.data.http.openai.types import MOST_SUFFIX_CHARS, Name, Stops, StopText, ToolName

LEVEL: Final = "0.13.0"
"""Version of Ollama whose forms these routes have; clients refuse a server that tells an older one than they need."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Options(SamplingIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the answer is sampled. `repeat_penalty` is read as `repetition_penalty`."""

    num_predict: Annotated[int, Meta(ge=-2, le=MOST_TOKENS)] | None = None
    """Most tokens of the answer; below 1: as many as the context leaves."""
    stop: StopText | Stops | None = None


class CalledFunction(_Strict, frozen=True, kw_only=True):
    """Which function the model called."""

    name: ToolName
    arguments: dict[str, Any] = {}
    index: int | None = None


class CallIn(_Strict, frozen=True, kw_only=True):
    """A tool call of an earlier turn."""

    function: CalledFunction
    id: str | None = None
    type: str | None = None


class TurnIn(_Strict, frozen=True, kw_only=True):
    """One turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[CallIn] | None = None
    tool_name: str | None = None
    """Of a turn of a tool: whose answer it is."""
    tool_call_id: str | None = None


class FunctionIn(_Strict, frozen=True, kw_only=True):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolIn(_Strict, frozen=True, kw_only=True):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    function: FunctionIn


class _Generated(_Strict, frozen=True, kw_only=True):
    model: Name
    stream: bool | None = None
    """Default: yes."""
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    think: bool | str | None = None
    """Whether to think, or how long; for the chat template."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_TOP_LOGPROBS)] | None = None


class OllamaChatRequest(_Generated, frozen=True, kw_only=True):
    """Body of `POST /api/chat`. Without messages it only asks whether the model is there."""

    messages: Annotated[list[TurnIn], Meta(max_length=MOST_MESSAGES)] = []
    tools: Annotated[list[ToolIn], Meta(max_length=MOST_TOOLS)] | None = None


class OllamaGenerateRequest(_Generated, frozen=True, kw_only=True):
    """Body of `POST /api/generate`. Without a prompt it only asks whether the model is there."""

    prompt: str | None = None
    suffix: Annotated[str, Meta(max_length=MOST_SUFFIX_CHARS)] | None = None
    system: str | None = None
    raw: bool | None = None
    """The prompt is given to the model as it is, without its chat template."""


class OllamaEmbedRequest(_Strict, frozen=True, kw_only=True):
    """Body of `POST /api/embed`."""

    model: Name
    input: str | Annotated[list[str], Meta(min_length=1, max_length=MOST_TEXTS)]
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None


class OllamaEmbeddingsRequest(_Strict, frozen=True, kw_only=True):
    """Body of `POST /api/embeddings`."""

    model: Name
    prompt: str


class OllamaShowRequest(_Strict, frozen=True, kw_only=True):
    """Body of `POST /api/show`."""

    model: Name


class OllamaVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /api/version`."""

    version: str = LEVEL
    server: str = "ashore"


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is. What ashore does not know of it is empty."""

    parent_model: str = ""
    format: str
    """The engine that runs it."""
    family: str = ""
    families: list[str] = []
    parameter_size: str = ""
    quantization_level: str
    """As `x-ashore-precision`."""


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A served model. Its size is not known here."""

    name: str
    model: str
    modified_at: str
    size: int = 0
    digest: str
    """Of the name of what decides its answers: another one means another model."""
    details: Details


class OllamaTags(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /api/tags`."""

    models: list[Tag]


class Running(Tag, frozen=True, kw_only=True):
    """A served model that is ready. It stays as long as it is served."""

    expires_at: str
    size_vram: int = 0
    context_length: int


class OllamaRunning(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /api/ps`."""

    models: list[Running]


class OllamaShown(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /api/show`. Modelfile, template and licence are not told."""

    modelfile: str = ""
    parameters: str
    template: str = ""
    details: Details
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


class FunctionOut(msgspec.Struct, frozen=True, kw_only=True):
    """The function that the model calls."""

    index: int
    name: str
    arguments: Any


class CallOut(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call of the model."""

    id: str
    function: FunctionOut


class TurnOut(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said, or a piece of it."""

    role: Literal["assistant"] = "assistant"
    content: str
    thinking: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[CallOut] | msgspec.UnsetType = msgspec.UNSET


class TopOut(msgspec.Struct, frozen=True, kw_only=True):
    """An alternative to a token."""

    token: str
    logprob: float
    bytes: list[int]


class LogprobOut(TopOut, frozen=True, kw_only=True):
    """A token with its log-probability."""

    top_logprobs: list[TopOut] | msgspec.UnsetType = msgspec.UNSET


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an answer; the counts and times are in the last one, times in nanoseconds."""

    model: str
    created_at: str
    message: TurnOut | msgspec.UnsetType = msgspec.UNSET
    """Of `/api/chat`."""
    response: str | msgspec.UnsetType = msgspec.UNSET
    """Of `/api/generate`."""
    thinking: str | msgspec.UnsetType = msgspec.UNSET
    logprobs: list[LogprobOut] | msgspec.UnsetType = msgspec.UNSET
    done: bool
    done_reason: Literal["stop", "length", "load"] | msgspec.UnsetType = msgspec.UNSET
    cut_by: str | msgspec.UnsetType = msgspec.UNSET
    """`deadline` or `budget`, where one of them ended it; the reason is `length` then."""
    total_duration: int | msgspec.UnsetType = msgspec.UNSET
    load_duration: int | msgspec.UnsetType = msgspec.UNSET
    prompt_eval_count: int | msgspec.UnsetType = msgspec.UNSET
    prompt_eval_duration: int | msgspec.UnsetType = msgspec.UNSET
    eval_count: int | msgspec.UnsetType = msgspec.UNSET
    eval_duration: int | msgspec.UnsetType = msgspec.UNSET


class OllamaEmbeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /api/embed`."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int = 0
    prompt_eval_count: int


class OllamaEmbedding(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /api/embeddings`."""

    embedding: list[float]
