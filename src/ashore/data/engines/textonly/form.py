"""OpenAI's chat form of an order and of its answer. Pure translation.

Only fields that the order sets are sent, since a server may refuse one that it does not know. Sources: OpenAI's API
reference, "Chat completions"; DeepSeek's (api-docs.deepseek.com) for `reasoning_content` and the reasons of an end;
Ollama's `openai/openai.go` and its issues 7881 and 15457 for calls without a number, or all with the number 0; TGI's
`router/src/lib.rs` and `chat.rs` for `stop_sequence`, ids of one figure, and a call that is no list.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ashore.core.chat import LONGEST_TOKEN_BYTES, openai_message, openai_tools
from ashore.core.errors import ContentBlocked, EngineFailed
from ashore.data.engines.model import Said, SaidCall, SayOrder
from ashore.data.engines.vllm.dialects import Dialect, Piece, Read

MOST_CALLS: Final = 1024
"""Calls of tools in one answer, at most."""
PIECES_A_TOKEN: Final = 2
SPARE_PIECES: Final = 64
"""An answer has no more pieces than these allow: each costs the worker what a token does."""
MOST_PIECE_BYTES: Final = 256 << 10
"""An event is read, unmasked and checked in one step of the worker. Whole calls of tools come in one."""
WELL_ENDED: Final = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "length": "length",
    "tool_calls": "stop",
}  # fmt: skip
"""Reasons of a whole answer. Any other (`insufficient_system_resource`, `abort`) means a failure."""
OWN_FAULTS: Final = frozenset((400, 404, 413, 422))
"""Codes of an error event that say that the request is at fault, and no server."""
ID_CHARS: Final = range(6, 65)
"""Lengths of an id of a call that is passed on. A shorter one comes again in the next answer."""


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
    tool_calls: list[_Call] | _Call | None = None


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
        "messages": [openai_message(one) for one in order.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **order.sampling,
    }
    if order.says_limit:
        body[limit_field] = order.max_new_tokens
    if order.stop:
        body["stop"] = list(order.stop)
    if order.tools:
        body |= openai_tools(order.tools, order.tool_choice)
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
    numbered = _Calls(offered=bool(order.tools))
    most_pieces = SPARE_PIECES + PIECES_A_TOKEN * order.max_new_tokens

    def read(data: bytes) -> Piece:
        nonlocal pieces, num_bytes, stream_id, usage
        if len(data) > MOST_PIECE_BYTES:
            raise EngineFailed(
                f"the server sent an event of {len(data):,} bytes; at most {MOST_PIECE_BYTES:,} are read"
            )
        chunk = msgspec.json.decode(data, type=_Chunk)
        if chunk.error is not None:
            return _failure(chunk.error)
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
                if delta.tool_calls:
                    calls += numbered.take(
                        [delta.tool_calls] if isinstance(delta.tool_calls, _Call) else delta.tool_calls
                    )
        if ended == "content_filter":
            raise ContentBlocked("the filter of the server ended this answer", hint="change the text of the request")
        if ended == "tool_calls" and not numbered.num_calls:
            raise EngineFailed("the server says that it called a tool, and called none", hint="send it again")
        said = None
        if text or reasoning or calls:
            pieces += 1
            num_bytes += len(text.encode()) + len(reasoning.encode())
            num_bytes += sum(len(call.name.encode()) + len(call.arguments.encode()) for call in calls)
            said = Said(order.order_id, text, reasoning, calls)
        fewest = -(-num_bytes // LONGEST_TOKEN_BYTES)
        if fewest > order.max_new_tokens or pieces > most_pieces:
            sent = f"{num_bytes:,} bytes in {pieces:,} pieces"
            raise EngineFailed(f"the server sent {sent}; {order.max_new_tokens} tokens were asked for")
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


def _failure(error: dict[str, Any] | str) -> Piece:
    if isinstance(error, str):
        return Piece(rows=[], error=error or "no reason given")
    words = str(error.get("message") or error)
    return Piece(rows=[], error=words, is_refusal=error.get("code") in OWN_FAULTS)


class _Calls:
    """The tool calls of one answer. Servers leave out their numbers, repeat one, or name two calls alike; here each has
    a number and an id of its own."""

    def __init__(self, *, offered: bool) -> None:
        """Create it. `offered`: whether there are tools to call."""
        self._offered = offered
        self._places: dict[int | None, int] = {}
        """Our number of the call that a number of the server means now."""
        self._theirs: list[str] = []
        """The server's id of each call."""
        self._ids: set[str] = set()

    @property
    def num_calls(self) -> int:
        return len(self._theirs)

    def take(self, calls: Sequence[_Call]) -> tuple[SaidCall, ...]:
        """Return the pieces of calls of one event.

        Raises:
            EngineFailed: no tool was offered, there are too many, or a call begins without a name.
        """
        most = MOST_CALLS if self._offered else 0
        if len(calls) > most:
            raise EngineFailed(f"the server called {len(calls)} tools; {most} may be called")
        return tuple(map(self._taken, calls))

    def _taken(self, call: _Call) -> SaidCall:
        name, theirs = call.function.name or "", str(call.id or "")
        place = self._places.get(call.index)
        if name and (place is None or (theirs != self._theirs[place] if theirs else call.index is None)):
            place = self._places[call.index] = self.num_calls
            self._theirs.append(theirs)
            own = self._own(theirs)
        elif place is not None:
            name = own = ""
        else:
            raise EngineFailed("the server sent a piece of a tool call that has no name")
        if place >= MOST_CALLS or (call.index or 0) not in range(MOST_CALLS):
            raise EngineFailed(f"the server sent a tool call with the index {call.index}")
        arguments = call.function.arguments or ""
        if not isinstance(arguments, str):  # as Ollama's own form has them
            arguments = msgspec.json.encode(arguments).decode()
        return SaidCall(place, own, name, arguments)

    def _own(self, theirs: str) -> str:
        fits = theirs.isascii() and theirs.isprintable() and len(theirs) in ID_CHARS and theirs not in self._ids
        own = theirs if fits else f"call_{secrets.token_hex(12)}"
        self._ids.add(own)
        return own


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
