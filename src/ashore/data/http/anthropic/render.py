"""Converts serving events to Anthropic's answers: whole, or as a stream of named events."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ashore.core.errors import AshoreError
from ashore.data.http.anthropic.types import MessageOut, StopReason, TextOut, ThinkingOut, ToolUseOut, UsageOut
from ashore.data.http.errors import anthropic_error
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.common import cut_of, id_for
from ashore.data.http.streaming import WholeAnswer
from ashore.data.path import ChoiceEnded, Delta, Started, ToolCallDelta, Usage
from ashore.kit.decode import UNDECODABLE

_encode = msgspec.json.Encoder().encode

BlockKind = Literal["text", "thinking", "tool_use"]


def stop_reason(ended: ChoiceEnded) -> StopReason:
    """Return Anthropic's stop reason."""
    match ended.reason:
        case "length":
            return "max_tokens"
        case "tool_calls":
            return "tool_use"
        case "stop":
            return "stop_sequence" if ended.stop_string is not None else "end_turn"


def usage_out(usage: Usage) -> UsageOut:
    """Return usage in Anthropic's form."""
    return UsageOut(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
    )


def render_message(answer: WholeAnswer, exchange: Exchange) -> bytes:
    """Return the whole answer as JSON."""
    choice = answer.choices[0]
    assert choice.ended is not None
    content: list[TextOut | ThinkingOut | ToolUseOut] = []
    if choice.reasoning:
        content.append(ThinkingOut(thinking="".join(choice.reasoning)))
    if choice.text:
        content.append(TextOut(text="".join(choice.text)))
    for _, call in sorted(choice.calls.items()):
        content.append(ToolUseOut(id=call.id, name=call.name, input=_parsed(call.arguments)))
    return _encode(
        MessageOut(
            id=id_for("msg_", exchange.request_id),
            model=answer.started.model,
            content=content,
            stop_reason=stop_reason(choice.ended),
            stop_sequence=choice.ended.stop_string,
            usage=usage_out(answer.usage),
            cut_by=cut_of(choice.ended),
        )
    )


class MessageEvents:
    """Renders a stream of Anthropic events. One content block is open at a time."""

    def __init__(self, exchange: Exchange) -> None:
        self._request_id = exchange.request_id
        self._id = id_for("msg_", exchange.request_id)
        self._index = -1
        self._open: BlockKind | None = None
        self._call = -1
        self._text_head = b""
        self._ended: ChoiceEnded | None = None

    def opened(self, started: Started) -> bytes:
        message = MessageOut(
            id=self._id,
            model=started.model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=UsageOut(input_tokens=started.prompt_tokens, output_tokens=0),
        )
        return _event("message_start", {"type": "message_start", "message": message})

    def delta(self, delta: Delta) -> bytes:
        out = b""
        if delta.reasoning:
            out += self._enter("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out += self._piece({"type": "thinking_delta", "thinking": delta.reasoning})
        if delta.text:
            if self._open != "text":
                out += self._enter("text", {"type": "text", "text": ""})
                self._text_head = (
                    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
                    b'"delta":{"type":"text_delta","text":' % self._index
                )
            out += b"%b%b}}\n\n" % (self._text_head, _encode(delta.text))
        for call in delta.tool_calls:
            out += self._tool(call)
        return out

    def ended(self, ended: ChoiceEnded) -> bytes:
        self._ended = ended
        return self._leave()

    def closed(self, usage: Usage) -> bytes:
        assert self._ended is not None
        delta = {"stop_reason": stop_reason(self._ended), "stop_sequence": self._ended.stop_string}
        if self._ended.cut_by:
            delta["cut_by"] = self._ended.cut_by
        return _event(
            "message_delta",
            {
                "type": "message_delta",
                "delta": delta,
                "usage": usage_out(usage),
            },
        ) + _event("message_stop", {"type": "message_stop"})

    def failed(self, error: AshoreError) -> bytes:
        return b"event: error\ndata: " + anthropic_error(error, self._request_id) + b"\n\n"

    def _tool(self, call: ToolCallDelta) -> bytes:
        out = b""
        if call.index != self._call:
            self._call = call.index
            out += self._leave()
            out += self._enter("tool_use", {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        if call.arguments:
            out += self._piece({"type": "input_json_delta", "partial_json": call.arguments})
        return out

    def _enter(self, kind: BlockKind, block: dict[str, Any]) -> bytes:
        if self._open == kind:
            return b""
        out = self._leave()
        self._index += 1
        self._open = kind
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return out + _event("content_block_start", start)

    def _leave(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event("content_block_stop", {"type": "content_block_stop", "index": self._index})

    def _piece(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"type": "content_block_delta", "index": self._index, "delta": delta})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))


def _parsed(arguments: str) -> Any:
    """Return the arguments as JSON; the text itself if the model did not write JSON."""
    try:
        return msgspec.json.decode(arguments)
    except UNDECODABLE:
        return {"text": arguments}
