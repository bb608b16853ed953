"""`/v1/responses` with tools of other servers: between two turns of the model, what it called is called.

Only servers that the operator named, by their label; with the rights, masks, budgets and records of `/mcp/NAME`. A turn
is an answer of its own to budgets and the audit log, under the id of the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from ashore.core.chat import Message, ToolCall
from ashore.core.errors import AshoreError, Bug, InvalidRequest, UnknownRoute
from ashore.core.hints import with_hint
from ashore.core.nearest import did_you_mean
from ashore.core.outward import outward
from ashore.core.wholenumber import whole_number
from ashore.data.authority import INFER, Principal
from ashore.data.bounds import MOST_TOOLS
from ashore.data.http.exchange import Exchange
from ashore.data.http.mcp import check_origin
from ashore.data.http.openai.responses_parse import OfferedTool, ServedTools, offered_tools
from ashore.data.http.openai.responses_render import ToolNews
from ashore.data.http.openai.responses_types import CustomTool, FunctionTool, McpFilter, McpTool, ResponsesRequest
from ashore.data.http.streaming import Choice
from ashore.data.mcp import Caller, Gateway, ServerTools, UnknownTool
from ashore.data.path import ChoiceEnded, Delta, GenerationRequest, Hear, ServingEvent, Started, ToolCallDelta, Usage
from ashore.kit.decode import UNDECODABLE

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

MOST_TURNS: Final = 8
MOST_CALLS: Final = 16
"""Of tools in one response; `max_tool_calls` lowers it."""
_OF_CLIENTS: Final = ("server_url", "connector_id", "tunnel_id", "authorization", "headers")
_ITSELF: Final = "ashore calls servers that its operator named, and no others: send their name as server_label alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class McpTools:
    """The tools of other servers that one request may use."""

    request: ResponsesRequest
    """The request, with the tools that the model is told of in place of the servers."""
    servers: Mapping[str, ServerTools]

    def listed(self) -> list[ToolNews]:
        """Return the news of what each server has."""
        return [
            ToolNews(choice=0, label=one.name, tools=[_shown(tool) for tool in one.tools])
            for one in self.request.tools or ()
            if isinstance(one, ServedTools)
        ]


async def mcp_tools(
    app: HttpApp, exchange: Exchange, principal: Principal, request: ResponsesRequest
) -> McpTools | None:
    """Return the tools of other servers that a request asks for, None if it asks for none.

    Raises:
        InvalidRequest: it names a server of its own, one that the caller may call nothing of, or asks for approvals.
        PermissionDenied: the caller may not ask the model, or a page of another site sent it.
    """
    if not any(isinstance(one, McpTool) for one in request.tools or ()):
        return None
    app.authority.require(principal, INFER, f"model/{request.model}")
    gateway = app.rooms.find(Gateway)
    if gateway is not None:
        check_origin(exchange, gateway.section.origins)
    caller = Caller(principal=principal, request_id=exchange.request_id, origin=exchange.origin, serving=app.serving)
    servers: dict[str, ServerTools] = {}
    told: list[Any] = []
    for at, one in enumerate(request.tools or ()):
        if not isinstance(one, McpTool):
            told.append(one)
            continue
        _check(one, f"tools[{at}]")
        try:
            if gateway is None or one.server_label in servers:
                what = "is named twice" if gateway else "cannot be reached: this server has no state"
                raise UnknownRoute(f"{one.server_label[:80]!r} {what}")
            server = servers[one.server_label] = gateway.at(one.server_label, caller)
        except UnknownRoute as fault:
            where = f"tools[{at}].server_label"
            raise InvalidRequest(f"{where}: {fault.message}", hint=fault.hint, param=where) from fault
        functions: list[FunctionTool | CustomTool] = [
            FunctionTool(name=tool["name"], description=_text_of(tool), parameters=tool["inputSchema"])
            for tool in _allowed(await server.list(), one.allowed_tools, f"tools[{at}].allowed_tools")
        ]
        told.append(ServedTools(name=one.server_label, tools=functions))
    whole = replace(request, tools=told)
    if (number := len(offered_tools(whole))) > MOST_TOOLS:
        raise InvalidRequest(
            f"with those of its servers the request has {number} tools; the limit is {MOST_TOOLS}",
            hint="name fewer in allowed_tools", param="tools",
        )  # fmt: skip
    return McpTools(request=whole, servers=servers)


def _check(tool: McpTool, where: str) -> None:
    for name in _OF_CLIENTS:
        if getattr(tool, name) is not None:
            raise InvalidRequest(f"{where}.{name} is not taken from a client", hint=_ITSELF, param=f"{where}.{name}")
    if tool.require_approval != "never":
        raise InvalidRequest(
            f"{where}.require_approval is not 'never', and ashore asks nobody before it calls a tool",
            hint="send require_approval: 'never': an officer has approved the tools, and roles say who may call them; "
            "or send them as functions, and call /mcp/NAME from your client",
            param=f"{where}.require_approval",
        )


def _allowed(
    tools: Sequence[Mapping[str, Any]], wanted: list[str] | McpFilter | None, where: str
) -> list[Mapping[str, Any]]:
    names = wanted.tool_names if isinstance(wanted, McpFilter) else wanted
    reads = wanted.read_only if isinstance(wanted, McpFilter) else None
    known = {str(tool["name"]): tool for tool in tools}
    if missing := [name for name in names or () if name not in known]:
        raise InvalidRequest(
            f"{where} names {missing[0][:80]!r}, which is no tool that you may call there",
            hint=did_you_mean(missing[0], known), param=where,
        )  # fmt: skip
    found = [tool for name, tool in known.items() if names is None or name in names]
    return [one for one in found if reads is None or _only_reads(one) == reads]


def _only_reads(tool: Mapping[str, Any]) -> bool:
    notes = tool.get("annotations")
    return isinstance(notes, dict) and notes.get("readOnlyHint") is True


def _text_of(tool: Mapping[str, Any]) -> str:
    return str(tool.get("description") or tool.get("title") or "")


def _shown(tool: Any) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters, "annotations": None}


class _Turn:
    """Hears one turn of the model. Its end is told by who knows whether another one follows."""

    def __init__(self, hear: Hear, lists: Sequence[ToolNews] | None) -> None:
        self.choice = Choice()
        self._hear, self._lists = hear, lists

    def __call__(self, event: ServingEvent) -> None:
        match event:
            case Started() if self._lists is not None:
                self._hear(replace(event, good_until_s=0.0))  # its bytes are no answer to be repeated
                for one in self._lists:
                    self._hear(one)
            case Delta():
                self.choice.add(event)
                self._hear(event)
            case ChoiceEnded():
                self.choice.ended = event


@dataclass(slots=True, kw_only=True)
class McpTurns:
    """Answers one request in turns."""

    app: HttpApp
    exchange: Exchange
    principal: Principal
    tools: McpTools
    generation: GenerationRequest
    _total: Usage | None = None
    _calls_left: int = field(init=False)
    _began_s: float = field(init=False)
    _may_call: bool = False
    """Whether it is noted that this attempt at a job calls tools."""

    def __post_init__(self) -> None:
        asked = self.tools.request.max_tool_calls
        self._calls_left = MOST_CALLS if asked is None else min(MOST_CALLS, asked)
        self._began_s = asyncio.get_running_loop().time()

    async def answer(self, hear: Hear, *, before_end: Callable[[Usage], Awaitable[None]]) -> None:
        """Answer, as `ServingService.answer` does. The usage is that of all turns."""
        request, names = self.generation, offered_tools(self.tools.request)
        for turn in range(MOST_TURNS):
            one = _Turn(hear, None if turn else self.tools.listed())
            await self.app.serving.answer(request, self.principal, one, before_end=self._count)
            if one.choice.ended is None or self._total is None:
                raise Bug("a turn ended without its last events")
            calls = list(one.choice.calls.values()) if one.choice.ended.reason == "tool_calls" else []
            served = [call for call in calls if call.name in names and names[call.name].is_served]
            if served:
                await self._begin_calls()
            results = [await self._result(call, names[call.name], hear) for call in served]
            left = None if request.max_tokens is None else self._most_tokens - self._total.completion_tokens
            if not served or len(served) < len(calls) or turn + 1 == MOST_TURNS or (left is not None and left < 1):
                cut = ChoiceEnded(choice=0, reason="length") if served and len(served) == len(calls) else None
                hear(cut or one.choice.ended)
                await before_end(self._total)
                hear(self._total)
                return
            request = self._next(request, one.choice, served, results, left, is_last=turn + 2 == MOST_TURNS)

    async def _begin_calls(self) -> None:
        """Note that this attempt at a job calls tools. What an earlier one called may have been carried out.

        Raises:
            InvalidRequest: an earlier attempt had called tools, or this one has the job no more.
        """
        if self._may_call or not self.exchange.job_id:
            return
        desk, job_id = self.app.desk, self.exchange.job_id
        attempt = whole_number(self.exchange.headers.get(b"x-ashore-attempt", b"")) or 0
        if not await desk.call(lambda: desk.events.begin_calls(job_id, attempt)):
            raise InvalidRequest(
                "this response was interrupted after it had called tools; they may have been carried out, and are not "
                "repeated",
                hint="see in the audit log what was called (action mcp:call), then send the request again",
            )
        self._may_call = True

    @property
    def _most_tokens(self) -> int:
        return self.generation.max_tokens or 0

    async def _count(self, usage: Usage) -> None:
        so_far = self._total
        if so_far is not None:
            names = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
            usage = replace(usage, **{name: getattr(so_far, name) + getattr(usage, name) for name in names})
        self._total = usage

    def _next(
        self, request: GenerationRequest, said: Choice, calls: Sequence[ToolCallDelta], results: Sequence[str],
        left: int | None, *, is_last: bool,
    ) -> GenerationRequest:  # fmt: skip
        """Return the request of the next turn. The last one calls no tool, so that it answers."""
        called = tuple(ToolCall(id=one.id, name=one.name, arguments=one.arguments) for one in calls)
        text, thought = "".join(said.text), "".join(said.reasoning)
        came = zip(calls, results, strict=True)
        told = [Message(role="tool", content=result, tool_call_id=one.id) for one, result in came]
        turn = Message(role="assistant", content=text, reasoning=thought, tool_calls=called)
        waited_s = asyncio.get_running_loop().time() - self._began_s
        until_s = self.generation.deadline_s
        return replace(
            request, messages=(*request.messages, turn, *told), max_tokens=left,
            tool_choice="none" if is_last or self._calls_left < 1 else "auto",
            deadline_s=None if until_s is None else max(0.001, until_s - waited_s),
        )  # fmt: skip

    async def _result(self, call: ToolCallDelta, offered: OfferedTool, hear: Hear) -> str:
        """Call a tool, tell what came of it once that is recorded, and return what the model reads."""
        label = offered.namespace or ""
        output, error = await self._called(label, offered.tool.name, call.arguments)
        await self.app.serving.recorded()
        text = output if error is None else msgspec.json.encode(error.get("content") or error["message"]).decode()
        self.exchange.hold.grow(len(text))
        hear(ToolNews(choice=0, label=label, call=call.index, output=output, error=error))
        return text

    async def _called(self, label: str, name: str, arguments: str) -> tuple[str, dict[str, Any] | None]:
        """Return the output of a call, and its error in OpenAI's form."""
        if self._calls_left < 1:
            return "", _protocol_error("the limit of tool calls of this response is reached: answer without")
        self._calls_left -= 1
        try:
            given = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
            found = await self.tools.servers[label].call(name, given)
        except UNDECODABLE:
            return "", _protocol_error("the arguments are not a JSON object")
        except UnknownTool as fault:
            return "", _protocol_error(fault.message)
        except AshoreError as fault:
            content = [{"type": "text", "text": with_hint(*outward(fault))}]
            return "", {"type": "mcp_tool_execution_error", "content": content}
        if found["isError"]:
            return "", {"type": "mcp_tool_execution_error", "content": found["content"]}
        texts = [one["text"] for one in found["content"] if isinstance(one.get("text"), str)]
        is_text = len(texts) == len(found["content"]) > 0
        return "\n".join(texts) if is_text else msgspec.json.encode(found).decode(), None


def _protocol_error(message: str) -> dict[str, Any]:
    return {"type": "mcp_protocol_error", "code": -32602, "message": message}
