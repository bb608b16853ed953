"""`/v1/chat/completions`: request in, GenerationRequest out; answer in, JSON or chunks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.errors import AshoreError, InvalidRequest
from ashore.core.sampling import left_out
from ashore.data.bounds import MOST_TEMPLATE_OPTION_BYTES
from ashore.data.http.errors import openai_error
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.common import (
    UsageOut,
    asked_sampling,
    cut_json,
    cut_of,
    grammar_of,
    id_for,
    stops_of,
    terms_of,
    token_stops_of,
    usage_out,
)
from ashore.data.http.openai.types import ChatMessage, ChatRequest, NamedTool, TextPart, ToolCallIn, ToolIn
from ashore.data.http.streaming import Choice, WholeAnswer
from ashore.data.http.tools import free_arguments, free_input, free_text_tool, tool_spec
from ashore.data.path import ChoiceEnded, Delta, GenerationRequest, Started, TokenText, ToolCallDelta, Usage

_encode = msgspec.json.Encoder().encode


class TopLogprob(msgspec.Struct, frozen=True):
    """An alternative to a generated token."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobOut(msgspec.Struct, frozen=True):
    """A generated token."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(msgspec.Struct, frozen=True):
    """Log-probabilities of a choice, or of one streamed part of it."""

    content: list[TokenLogprobOut]
    refusal: None = None


class FunctionOut(msgspec.Struct, frozen=True):
    """The function that the model calls."""

    name: str
    arguments: str


class CustomOut(msgspec.Struct, frozen=True):
    """The tool of free text that the model calls."""

    name: str
    input: str


class ToolCallOut(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call of the model: of a function, or of a tool of free text."""

    id: str
    type: Literal["function", "custom"]
    function: FunctionOut | msgspec.UnsetType = msgspec.UNSET
    custom: CustomOut | msgspec.UnsetType = msgspec.UNSET


class MessageOut(msgspec.Struct, frozen=True, kw_only=True):
    """The message that the model generated."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCallOut] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One choice."""

    index: int
    message: MessageOut
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]
    cut_by: str | msgspec.UnsetType = msgspec.UNSET
    """`deadline` or `budget`, where one of them ended it; the reason is `length` then."""


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageOut


def to_generation(request: ChatRequest, exchange: Exchange) -> GenerationRequest:
    """Return the generation request.

    Raises:
        InvalidRequest: its parts contradict each other.
    """
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise InvalidRequest("max_tokens and max_completion_tokens mean the same; send only one", param="max_tokens")
    continues = bool(request.continue_final_message) or any(message.prefix for message in request.messages)
    return GenerationRequest(
        model=request.model,
        messages=messages_of(request.messages, continues=continues),
        continues=continues,
        thinking_tokens=request.thinking_budget,
        stop_token_ids=token_stops_of(request),
        tools=tuple(tool_of(tool) for tool in request.tools or ()),
        tool_choice=_tool_choice(request.tool_choice),
        one_call=request.parallel_tool_calls is False,
        sampling=asked_sampling(request),
        left_out=left_out(request),
        num_choices=request.n or 1,
        max_tokens=request.max_completion_tokens or request.max_tokens,
        stop=stops_of(request.stop),
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        prefix_salt=request.cache_salt or "",
        grammar=grammar_of(request.response_format),
        ignore_eos=bool(request.ignore_eos),
        lookup=request.lookup is not False,
        **terms_of(exchange),
        template_options=template_options(request.chat_template_kwargs, request.reasoning_effort),
    )


def messages_of(messages: Sequence[ChatMessage], *, continues: bool) -> tuple[Message, ...]:
    """Return the turns; `continues`: the last one is the beginning of the answer.

    Raises:
        InvalidRequest: a turn does not fit its role, or no answer can begin with the last one.
    """
    last = messages[-1] if messages else None
    if continues and (last is None or last.role != "assistant" or last.tool_calls):
        raise InvalidRequest(
            "only a last message of the assistant, without tool calls, can be the beginning of the answer",
            hint='let the last message be {"role": "assistant", "content": "…", "prefix": true}',
            param=f"messages[{len(messages) - 1}].prefix",
        )
    if any(message.prefix for message in messages[:-1]):
        raise InvalidRequest(
            "prefix stands in a message that is not the last one", hint="send it in the last one", param="messages"
        )
    return tuple(message_of(message, at) for at, message in enumerate(messages))


def message_of(message: ChatMessage, at: int) -> Message:
    """Return one turn. `developer` is the newer name of `system`."""
    if message.role == "tool" and not message.tool_call_id:
        raise InvalidRequest("a tool message needs tool_call_id", param=f"messages[{at}].tool_call_id")
    if message.content is None and not message.tool_calls and message.role != "assistant":
        raise InvalidRequest(
            "the message has no content; expected content or tool_calls", param=f"messages[{at}].content"
        )
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=text_of(message.content),
        reasoning=message.reasoning_content or "",
        tool_calls=tuple(_call_of(call) for call in message.tool_calls or ()),
        tool_call_id=message.tool_call_id or "",
        name=message.name or "",
    )


def text_of(content: str | list[TextPart] | None) -> str:
    """Return the text of a message, parts joined."""
    if content is None:
        return ""
    return content if isinstance(content, str) else "".join(part.text for part in content)


def tool_of(tool: ToolIn) -> ToolSpec:
    """Return one tool."""
    function = tool.function
    if tool.type == "function" and function is not None:
        return tool_spec(function.name, function.description, function.parameters, strict=function.strict)
    assert tool.custom is not None  # the type says so
    return free_text_tool(tool.custom.name, tool.custom.description, tool.custom.format)


def free_text_names(request: ChatRequest) -> frozenset[str]:
    """Return the names of the tools whose calls are sent as free text."""
    return frozenset(tool.custom.name for tool in request.tools or () if tool.type == "custom" and tool.custom)


def render_chat(answer: WholeAnswer, exchange: Exchange, free_text: frozenset[str] = frozenset()) -> bytes:
    """Return the whole answer as JSON. `free_text`: names of the tools whose calls have `input` instead of
    arguments."""
    started = answer.started
    return _encode(
        ChatCompletion(
            id=id_for("chatcmpl-", exchange.request_id),
            created=started.created_s,
            model=started.model,
            system_fingerprint=started.release,
            choices=[_choice(index, choice, free_text) for index, choice in enumerate(answer.choices)],
            usage=usage_out(answer.usage),
        )
    )


def logprobs_of(tokens: tuple[TokenText, ...] | list[TokenText]) -> ChoiceLogprobs | None:
    """Return log-probabilities in OpenAI's form, None when there are none."""
    if not tokens:
        return None
    return ChoiceLogprobs(
        [
            TokenLogprobOut(
                t.text, t.logprob, list(t.raw), [TopLogprob(text, lp, list(raw)) for text, raw, lp in t.top]
            )
            for t in tokens
        ]
    )


class ChatChunks:
    """Renders a stream of `chat.completion.chunk`. Repeated parts are encoded once, before the first token."""

    def __init__(
        self,
        exchange: Exchange,
        num_choices: int,
        *,
        include_usage: bool,
        free_text: frozenset[str] = frozenset(),
    ) -> None:
        """Create it. `free_text`: names of the tools whose calls are sent as `custom`, each with its input in one
        piece."""
        self._id = id_for("chatcmpl-", exchange.request_id)
        self._free_text = free_text
        self._written: dict[tuple[int, int], str] = {}
        """Arguments so far of calls of free text that go on, by choice and index."""
        self._num_choices = num_choices
        self._include_usage = include_usage
        self._after = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + self._after
        self._base = b""
        self._heads: list[bytes] = []

    def opened(self, started: Started) -> bytes:
        self._base = (
            b'data: {"id":%s,"object":"chat.completion.chunk","created":%d,"model":%s,"system_fingerprint":%s'
            % (
                _encode(self._id),
                started.created_s,
                _encode(started.model),
                _encode(started.release),
            )
        )
        self._heads = [self._base + b',"choices":[{"index":%d,"delta":{' % index for index in range(self._num_choices)]
        return b"".join(head + b'"role":"assistant","content":""' + self._tail for head in self._heads)

    def delta(self, delta: Delta) -> bytes:
        if not (delta.reasoning or delta.tool_calls or delta.logprobs):
            return b'%b"content":%b%b' % (self._heads[delta.choice], _encode(delta.text), self._tail)
        parts = []
        if delta.reasoning:
            parts.append(b'"reasoning_content":' + _encode(delta.reasoning))
        if delta.text or not (delta.reasoning or delta.tool_calls):
            parts.append(b'"content":' + _encode(delta.text))
        if delta.tool_calls:
            pieces = [one for piece in delta.tool_calls for one in self._call_pieces(delta.choice, piece)]
            parts += [b'"tool_calls":' + _encode(pieces)] if pieces else []
        logprobs = _encode(logprobs_of(delta.logprobs))
        return b'%b%b},"logprobs":%b,"finish_reason":null}]%b' % (
            self._heads[delta.choice],
            b",".join(parts),
            logprobs,
            self._after,
        )

    def _call_pieces(self, choice: int, piece: ToolCallDelta) -> list[dict[str, Any]]:
        """Return the pieces of a call to send now: free text once it is whole, which the next call or the end shows."""
        place = (choice, piece.index)
        if place in self._written:
            self._written[place] += piece.arguments
            return []
        out = self._free_inputs(choice)
        if piece.name not in self._free_text:
            return [*out, _call_piece(piece)]
        self._written[place] = piece.arguments
        begun = {"index": piece.index, "id": piece.id, "type": "custom", "custom": {"name": piece.name, "input": ""}}
        return [*out, begun]

    def _free_inputs(self, choice: int) -> list[dict[str, Any]]:
        """Return the inputs of a choice's free-text calls that are whole by now."""
        places = [place for place in self._written if place[0] == choice]
        return [{"index": place[1], "custom": {"input": free_input(self._written.pop(place))}} for place in places]

    def ended(self, ended: ChoiceEnded) -> bytes:
        before = b""
        if self._written and (inputs := self._free_inputs(ended.choice)):
            before = b'%b"tool_calls":%b%b' % (self._heads[ended.choice], _encode(inputs), self._tail)
        return b'%b%b},"logprobs":null,"finish_reason":"%b"%b}]%b' % (
            before,
            self._heads[ended.choice],
            ended.reason.encode(),
            cut_json(ended),
            self._after,
        )

    def closed(self, usage: Usage) -> bytes:
        if not self._include_usage:
            return b"data: [DONE]\n\n"
        return b'%b,"choices":[],"usage":%b}\n\ndata: [DONE]\n\n' % (self._base, _encode(usage_out(usage)))

    def failed(self, error: AshoreError) -> bytes:
        return b"data: " + openai_error(error) + b"\n\n"


def _choice(index: int, choice: Choice, free_text: frozenset[str]) -> ChatChoice:
    calls = [_call_out(call, free_text) for _, call in sorted(choice.calls.items())]
    text = "".join(choice.text)
    reasoning = "".join(choice.reasoning)
    assert choice.ended is not None
    return ChatChoice(
        index=index,
        message=MessageOut(
            content=None if calls and not text else text,
            reasoning_content=reasoning or msgspec.UNSET,
            tool_calls=calls or msgspec.UNSET,
        ),
        logprobs=logprobs_of(choice.logprobs),
        finish_reason=choice.ended.reason,
        cut_by=cut_of(choice.ended),
    )


def _call_of(call: ToolCallIn) -> ToolCall:
    if call.type == "custom" and call.custom is not None:
        return ToolCall(id=call.id, name=call.custom.name, arguments=free_arguments(call.custom.input))
    assert call.function is not None  # the type says so
    return ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)


def _call_out(call: ToolCallDelta, free_text: frozenset[str]) -> ToolCallOut:
    if call.name in free_text:
        return ToolCallOut(id=call.id, type="custom", custom=CustomOut(call.name, free_input(call.arguments)))
    return ToolCallOut(id=call.id, type="function", function=FunctionOut(call.name, call.arguments))


def _call_piece(piece: ToolCallDelta) -> dict[str, Any]:
    """Return a piece of a tool call; only the first piece has id, type and name."""
    if piece.id or piece.name:
        return {
            "index": piece.index,
            "id": piece.id,
            "type": "function",
            "function": {"name": piece.name, "arguments": piece.arguments},
        }
    return {"index": piece.index, "function": {"arguments": piece.arguments}}


def _tool_choice(choice: str | NamedTool | None) -> str:
    if choice is None:
        return "auto"
    if isinstance(choice, str):
        return choice
    named = choice.custom if choice.type == "custom" else choice.function
    assert named is not None  # the type says so
    return f"tool:{named.name}"


def template_options(given: dict[str, Any] | None, reasoning_effort: str | None = None) -> dict[str, object]:
    """Return the variables for the chat template.

    Raises:
        InvalidRequest: they are too long.
    """
    options: dict[str, object] = dict(given or {})
    if len(_encode(options)) > MOST_TEMPLATE_OPTION_BYTES:
        raise InvalidRequest(
            f"chat_template_kwargs is longer than {MOST_TEMPLATE_OPTION_BYTES:,} bytes", param="chat_template_kwargs"
        )
    if reasoning_effort is not None:
        options.setdefault("reasoning_effort", reasoning_effort)
    return options
