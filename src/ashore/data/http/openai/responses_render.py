"""`/v1/responses`: the response object, and the typed events of a stream, in the official order.

response.created, response.in_progress; for each item output_item.added, its parts and deltas, output_item.done; then
response.completed, or response.incomplete where the answer ran out of tokens, or response.failed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ashore.core.errors import AshoreError
from ashore.core.hints import with_hint
from ashore.core.outward import outward
from ashore.data.http.openai.chat import logprobs_of
from ashore.data.http.openai.common import cut_of
from ashore.data.http.openai.responses_parse import offered_tools
from ashore.data.http.openai.responses_types import (
    ConversationRef,
    CustomTool,
    Incomplete,
    InputDetails,
    OutputDetails,
    ResponseFault,
    ResponseOut,
    ResponsesRequest,
    ResponsesUsage,
    Status,
)
from ashore.data.http.tools import free_input
from ashore.data.path import ChoiceEnded, Delta, Started, TokenText, ToolCallDelta, Usage

_encode = msgspec.json.Encoder().encode
ID_PREFIXES: Final = {
    "reasoning": "rs", "message": "msg", "function_call": "fc", "custom_tool_call": "ctc", "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
}  # fmt: skip
PLAIN_TEXT: Final[dict[str, Any]] = {"format": {"type": "text"}}


def response_out(
    request: ResponsesRequest,
    response_id: str,
    *,
    created_s: int,
    status: Status,
    output: list[dict[str, Any]] | None = None,
    usage: Usage | None = None,
    error: ResponseFault | None = None,
    background: bool = False,
    completed_s: int | None = None,
    incomplete: Incomplete | None = None,
) -> ResponseOut:
    """Return a response; it repeats the fields of the request."""
    reasoning = request.reasoning
    return ResponseOut(
        id=response_id,
        created_at=created_s,
        status=status,
        background=background,
        completed_at=completed_s,
        error=error,
        incomplete_details=incomplete,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        model=request.model,
        output=output or [],
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        reasoning={
            "effort": reasoning.effort if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        store=background or bool(request.store),
        temperature=1.0 if request.temperature is None else request.temperature,
        text=msgspec.to_builtins(request.text) if request.text and request.text.format else PLAIN_TEXT,
        tool_choice=msgspec.to_builtins(request.tool_choice) or "auto",
        tools=[msgspec.to_builtins(tool) for tool in request.tools or ()],
        top_p=1.0 if request.top_p is None else request.top_p,
        top_logprobs=request.top_logprobs or 0,
        usage=usage_of(usage),
        metadata=request.metadata or {},
        conversation=msgspec.UNSET if request.conversation is None else ConversationRef(id=request.conversation_id),
    )


def usage_of(usage: Usage | None) -> ResponsesUsage | None:
    """Return usage in the form of this route."""
    if usage is None:
        return None
    return ResponsesUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputDetails(usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputDetails(usage.reasoning_tokens),
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


class ToolNews(Delta, frozen=True, kw_only=True):
    """What a server of tools has, or what came of a call."""

    label: str
    tools: Sequence[dict[str, Any]] = ()
    call: int = -1
    """Index of the call in its turn; below 0: it is a list."""
    output: str = ""
    error: dict[str, Any] | None = None


@dataclass(slots=True)
class _Open:
    """The item that is being written."""

    kind: str
    item_id: str
    name: str = ""
    """Name of the called tool, as the client knows it."""
    namespace: str | None = None
    call_id: str = ""
    text: str = ""
    logprobs: list[TokenText] = field(default_factory=list)
    call: int = -1


class ResponseWriter:
    """Follows one answer: holds its items so far, and renders its events. A `Renderer` of `stream_answer`."""

    def __init__(
        self,
        request: ResponsesRequest,
        response_id: str,
        *,
        background: bool,
        with_logprobs: bool,
        first_number: int = 0,
        says_created: bool = True,
        offers: ResponsesRequest | None = None,
    ) -> None:
        """Create it.

        Args:
            request: The request.
            response_id: Id of the answer.
            background: Whether it is a background response.
            with_logprobs: Whether events have log-probabilities.
            first_number: `sequence_number` of its first event.
            says_created: Whether it sends `response.created` itself.
            offers: The request with the tools that the model is told of, where these are others.
        """
        self._says_created = says_created
        self._request = request
        self._offers = offers
        self._tools = offered_tools(offers or request)
        self._called: dict[int, int] = {}
        """Places of calls of which nothing has come yet, by the index of the call."""
        self._id = response_id
        self._suffix = response_id.removeprefix("resp_")
        self._background = background
        self._with_logprobs = with_logprobs
        self._created_s = 0
        self._number = first_number
        self._done: list[dict[str, Any]] = []
        self._open: _Open | None = None
        self._cut: Incomplete | None = None

    def twin(self) -> ResponseWriter:
        """Return a new writer for the same answer, for a second reader."""
        return ResponseWriter(
            self._request, self._id, background=self._background, with_logprobs=self._with_logprobs, offers=self._offers
        )

    # --- Renderer

    def opened(self, started: Started) -> bytes:
        self._created_s = started.created_s
        response = self._response("in_progress")
        created = self._event("response.created", response=response) if self._says_created else b""
        return created + self._event("response.in_progress", response=response)

    def delta(self, delta: Delta) -> bytes:
        if isinstance(delta, ToolNews):
            return self._end() + (self._listed(delta) if delta.call < 0 else self._came_of(delta))
        out = b""
        if delta.reasoning:
            out += self._piece("reasoning", delta.reasoning, [])
        if delta.text:
            out += self._piece("message", delta.text, list(delta.logprobs) if self._with_logprobs else [])
        for piece in delta.tool_calls:
            out += self._call_piece(piece)
        return out

    def ended(self, ended: ChoiceEnded) -> bytes:
        if ended.reason == "length":
            self._cut = Incomplete(reason="max_output_tokens", cut_by=cut_of(ended))
        out = b""
        if self._open is None and not self._done:
            out = self._begin("message")
        out += self._end()
        return out + b"".join(self._call_ended(one, "incomplete", b"") for one in list(self._called))

    def closed(self, usage: Usage) -> bytes:
        response = self.whole(usage)
        return self._event(f"response.{response.status}", response=response)

    def failed(self, error: AshoreError) -> bytes:
        fault = ResponseFault(code=error.code, message=with_hint(*outward(error)))
        return self._event("response.failed", response=self._response("failed", error=fault))

    # --- the response itself

    def whole(self, usage: Usage) -> ResponseOut:
        """Return the response once its choice has ended."""
        if self._cut:
            return self._response("incomplete", usage=usage)
        return self._response("completed", usage=usage, completed_s=int(time.time()))

    def _response(
        self,
        status: Status,
        *,
        usage: Usage | None = None,
        error: ResponseFault | None = None,
        completed_s: int | None = None,
    ) -> ResponseOut:
        return response_out(
            self._request,
            self._id,
            created_s=self._created_s,
            status=status,
            output=list(self._done),
            usage=usage,
            error=error,
            background=self._background,
            completed_s=completed_s,
            incomplete=self._cut if status == "incomplete" else None,
        )

    # --- items

    def _piece(self, kind: str, text: str, logprobs: list[TokenText]) -> bytes:
        out = b""
        if self._open is None or self._open.kind != kind:
            out = self._end() + self._begin(kind)
        assert self._open is not None
        self._open.text += text
        self._open.logprobs += logprobs
        place = {"item_id": self._open.item_id, "output_index": len(self._done), "content_index": 0}
        if kind == "reasoning":
            return out + self._event("response.reasoning_text.delta", **place, delta=text)
        return out + self._event("response.output_text.delta", **place, delta=text, logprobs=_logprobs(logprobs))

    def _call_piece(self, piece: ToolCallDelta) -> bytes:
        out = b""
        if self._open is None or self._open.call != piece.index:
            out = self._end() + self._begin_call(piece)
        assert self._open is not None
        self._open.text += piece.arguments
        if piece.arguments and self._open.kind != "custom_tool_call":  # free text is sent once it is whole
            out += self._event(
                f"response.{self._open.kind}_arguments.delta",
                item_id=self._open.item_id,
                output_index=len(self._done),
                delta=piece.arguments,
            )
        return out

    def _begin_call(self, piece: ToolCallDelta) -> bytes:
        called = self._tools.get(piece.name)
        custom = called is not None and isinstance(called.tool, CustomTool)
        served = called is not None and called.is_served
        self._open = self._opened("custom_tool_call" if custom else "mcp_call" if served else "function_call")
        self._open.call_id, self._open.call = piece.id, piece.index
        self._open.name = piece.name if called is None else called.tool.name
        self._open.namespace = None if called is None else called.namespace
        out = self._event("response.output_item.added", output_index=len(self._done), item=self._item("in_progress"))
        place = {"item_id": self._open.item_id, "output_index": len(self._done)}
        return out + (self._event("response.mcp_call.in_progress", **place) if served else b"")

    def _listed(self, news: ToolNews) -> bytes:
        """Add the list of a server's tools."""
        at, item_id = len(self._done), f"{ID_PREFIXES['mcp_list_tools']}_{self._suffix}_{len(self._done)}"
        item = {
            "id": item_id, "type": "mcp_list_tools", "server_label": news.label, "tools": news.tools, "error": None
        }  # fmt: skip
        self._done.append(item)
        out = self._event("response.output_item.added", output_index=at, item={**item, "tools": []})
        for state in ("in_progress", "completed"):
            out += self._event(f"response.mcp_list_tools.{state}", item_id=item_id, output_index=at)
        return out + self._event("response.output_item.done", output_index=at, item=item)

    def _came_of(self, news: ToolNews) -> bytes:
        """End the item of a call."""
        at = self._called[news.call]
        status, result = ("failed", {"error": news.error}) if news.error else ("completed", {"output": news.output})
        self._done[at] |= result
        out = self._event(f"response.mcp_call.{status}", item_id=self._done[at]["id"], output_index=at)
        return self._call_ended(news.call, status, out)

    def _call_ended(self, call: int, status: str, out: bytes) -> bytes:
        at = self._called.pop(call)
        self._done[at]["status"] = status
        return out + self._event("response.output_item.done", output_index=at, item=self._done[at])

    def _opened(self, kind: str) -> _Open:
        return _Open(kind, f"{ID_PREFIXES[kind]}_{self._suffix}_{len(self._done)}")

    def _begin(self, kind: str) -> bytes:
        self._open = self._opened(kind)
        index = len(self._done)
        out = self._event("response.output_item.added", output_index=index, item=self._item("in_progress"))
        if kind == "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            out += self._event(
                "response.content_part.added",
                item_id=self._open.item_id,
                output_index=index,
                content_index=0,
                part=part,
            )
        return out

    def _end(self) -> bytes:
        one = self._open
        if one is None:
            return b""
        status = "incomplete" if self._cut else "completed"
        item = self._item(status)
        place: dict[str, Any] = {"item_id": one.item_id, "output_index": len(self._done)}
        match one.kind:
            case "reasoning":
                out = self._event("response.reasoning_text.done", **place, content_index=0, text=one.text)
            case "message":
                out = self._event(
                    "response.output_text.done",
                    **place,
                    content_index=0,
                    text=one.text,
                    logprobs=_logprobs(one.logprobs),
                )
                out += self._event("response.content_part.done", **place, content_index=0, part=item["content"][0])
            case "custom_tool_call":
                out = self._event("response.custom_tool_call_input.delta", **place, delta=item["input"])
                out += self._event("response.custom_tool_call_input.done", **place, input=item["input"])
            case "mcp_call":
                out = self._event("response.mcp_call_arguments.done", **place, arguments=one.text)
                self._called[one.call] = len(self._done)
                self._done.append({**item, "status": "calling"})
                self._open = None
                return out
            case _:
                out = self._event("response.function_call_arguments.done", **place, name=one.name, arguments=one.text)
        out += self._event("response.output_item.done", output_index=len(self._done), item=item)
        self._done.append(item)
        self._open = None
        return out

    def _item(self, status: str) -> dict[str, Any]:
        """Return the open item; at its beginning it is empty."""
        one = self._open
        assert one is not None
        item: dict[str, Any] = {"id": one.item_id, "type": one.kind, "status": status}
        begins = status == "in_progress"
        match one.kind:
            case "reasoning":
                content = [] if begins else [{"type": "reasoning_text", "text": one.text}]
                item |= {"summary": [], "content": content}
            case "message":
                part = {
                    "type": "output_text",
                    "text": one.text,
                    "annotations": [],
                    "logprobs": _logprobs(one.logprobs),
                }
                item |= {"role": "assistant", "content": [] if begins else [part]}
            case "custom_tool_call":
                item |= {"call_id": one.call_id, "name": one.name, "input": "" if begins else free_input(one.text)}
            case "mcp_call":
                item |= {
                    "server_label": one.namespace, "name": one.name, "arguments": "" if begins else one.text,
                    "output": None, "error": None, "approval_request_id": None,
                }  # fmt: skip
            case _:
                item |= {"call_id": one.call_id, "name": one.name, "arguments": "" if begins else one.text}
        if one.namespace is not None and one.kind != "mcp_call":
            item["namespace"] = one.namespace
        return item

    @property
    def last_number(self) -> int:
        """`sequence_number` of the last event so far."""
        return self._number - 1

    def _event(self, kind: str, **fields: Any) -> bytes:
        number = self._number
        self._number += 1
        return event_of(kind, number, **fields)


def event_of(kind: str, number: int, **fields: Any) -> bytes:
    """Return one event of a stream."""
    data = _encode({"type": kind, "sequence_number": number, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _logprobs(tokens: list[TokenText]) -> list[dict[str, Any]]:
    found = logprobs_of(tokens)
    return [] if found is None else [msgspec.to_builtins(token) for token in found.content]
