"""OpenAI's chat form of an order and of its answer. Pure translation.

Only fields that the order sets are sent, since a server may refuse one that it does not know. Sources: OpenAI's API
reference, "Chat completions"; DeepSeek's (api-docs.deepseek.com) for `reasoning_content` and the reasons of an end.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ashore.core.chat import LONGEST_TOKEN_BYTES, Message
from ashore.core.errors import EngineFailed
from ashore.data.engines.model import Said, SaidCall, SayOrder
from ashore.data.engines.vllm.dialects import Dialect, Piece, Read

MOST_CALLS: Final = 1024
"""Calls of tools in one answer, at most."""
WELL_ENDED: Final = {"stop": "stop", "eos": "stop", "length": "length", "tool_calls": "stop", "function_call": "stop"}
"""Reasons of a whole answer. Any other (`content_filter`, `insufficient_system_resource`, `abort`) means a failure."""


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct, frozen=True):
    index: int | None = None
    id: str | int | None = None
    function: _Function = _Function()


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name for the cached ones."""

    @property
    def cached_tokens(self) -> int | None:
        details = self.prompt_tokens_details
        return self.prompt_cache_hit_tokens if details is None else details.cached_tokens


class _Chunk(msgspec.Struct, frozen=True):
    id: str | int | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: dict[str, Any] | str | None = None


def chat_body(order: SayOrder, model: str, *, limit_field: str = "max_tokens") -> dict[str, Any]:
    """Return the request for `order`, streamed. `limit_field`: name of the field with the most tokens."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(one) for one in order.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **order.sampling,
    }
    if order.says_limit:
        body[limit_field] = order.max_new_tokens
    if order.stop:
        body["stop"] = list(order.stop)
    if order.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": msgspec.json.decode(tool.parameters),
                },
            }
            for tool in order.tools
        ]
        kind, _, named = order.tool_choice.partition(":")
        body["tool_choice"] = {"type": "function", "function": {"name": named}} if named else kind
        if order.one_call:
            body["parallel_tool_calls"] = False
    if order.grammar is not None:
        body["response_format"] = {"type": order.grammar.kind}
        if order.grammar.kind == "json_schema":
            schema = msgspec.json.decode(order.grammar.text)
            body["response_format"]["json_schema"] = {"name": "answer", "strict": True, "schema": schema}
    return body


def reader(order: SayOrder) -> Read:
    """Return what reads the answer of `order`. Tokens count as the server says, within the bounds that the order and
    the bytes of the answer set; where it says nothing, as one for each piece."""
    pieces = num_bytes = 0
    stream_id: str | int | None = None
    usage = _Usage()

    def read(data: bytes) -> Piece:
        nonlocal pieces, num_bytes, stream_id, usage
        chunk = msgspec.json.decode(data, type=_Chunk)
        if chunk.error is not None:
            words = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
            return Piece(rows=[], error=str(words or chunk.error))
        if chunk.id and chunk.id != (stream_id := stream_id or chunk.id):
            raise EngineFailed("the server mixed another answer into the stream", hint="see the log of that server")
        text = reasoning = ended = ""
        calls: tuple[SaidCall, ...] = ()
        for choice in chunk.choices or ():
            if choice.index != 0:
                raise EngineFailed(f"the server sent choice {choice.index}; one was asked for")
            ended = choice.finish_reason or ended
            if (delta := choice.delta) is not None:
                text += delta.content or ""
                reasoning += delta.reasoning_content or delta.reasoning or ""
                calls += tuple(_call(call, place) for place, call in enumerate(delta.tool_calls or ()))
        said = None
        if text or reasoning or calls:
            pieces += 1
            num_bytes += len(text.encode()) + len(reasoning.encode())
            num_bytes += sum(len(call.name.encode()) + len(call.arguments.encode()) for call in calls)
            said = Said(order.order_id, text, reasoning, calls)
        fewest = -(-num_bytes // LONGEST_TOKEN_BYTES)
        if fewest > order.max_new_tokens:
            raise EngineFailed(f"the server sent {num_bytes:,} bytes; {order.max_new_tokens} tokens were asked for")
        usage = chunk.usage or usage
        made = pieces if usage.completion_tokens is None else usage.completion_tokens
        prompt = order.most_prompt_tokens if usage.prompt_tokens is None else usage.prompt_tokens
        return Piece(
            rows=[],
            said=said,
            ended=WELL_ENDED.get(ended, ended),
            cached_tokens=usage.cached_tokens,
            counts=(
                min(max(prompt, order.fewest_prompt_tokens), order.most_prompt_tokens),
                min(max(made, fewest), order.max_new_tokens),
            ),
        )

    return read


def _call(call: _Call, place: int) -> SaidCall:
    index = place if call.index is None else call.index
    if not 0 <= index < MOST_CALLS:
        raise EngineFailed(f"the server sent a tool call with the index {index}")
    arguments = call.function.arguments or ""
    if not isinstance(arguments, str):  # as Ollama's own form has them
        arguments = msgspec.json.encode(arguments).decode()
    return SaidCall(index, str(call.id or ""), call.function.name or "", arguments)


def _message(one: Message) -> dict[str, Any]:
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


CHAT: Final = Dialect(
    name="chat",
    title="text server",
    owner="",
    path="/v1/chat/completions",
    body=chat_body,
    reader=reader,
    takes_text=True,
    version=("", ""),
    health="/v1/models",
    rests=5,  # one that is paid for by the request is not asked every two seconds
)
