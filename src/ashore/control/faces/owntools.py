"""`POST /admin/mcp`: declared calls as tools for agents of operators, with the rights of their key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

import ashore
from ashore.control.faces.admin import desk_of, perform_for
from ashore.control.mcp import McpDesk
from ashore.core.errors import InvalidRequest, InvalidSpec, PermissionDenied, SwitchedOff
from ashore.core.nearest import did_you_mean
from ashore.core.principal import Principal
from ashore.data.authority import denial_of
from ashore.data.http import JSON, Exchange, check_origin
from ashore.data.mcp import UnknownTool, answer
from ashore.kit.call import Call, Download, field_docs
from ashore.kit.decode import convert
from ashore.kit.rights import check_call, lacks
from ashore.kit.rooms import rooms

if TYPE_CHECKING:
    from ashore.data.http import Face

BODY_BYTES: Final = 1 << 18


class OwnTools:
    """The calls that ashore.toml offers, for one caller: the `Tools` of `data/mcp/wire.py`."""

    def __init__(self, app: Face, exchange: Exchange, principal: Principal, patterns: Sequence[str]) -> None:
        self._app, self._exchange, self._principal = app, exchange, principal
        self._offered = {
            f"{call.noun}_{call.word}".replace(" ", "_"): (room, call)
            for room, call in _every()
            if _is_offered(call, patterns)
        }

    async def list(self) -> Sequence[Mapping[str, Any]]:
        mine = ((name, call) for name, (_, call) in self._offered.items())
        return [_definition(name, call) for name, call in mine if not lacks(self._app.authority, self._principal, call)]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        app, exchange, principal = self._app, self._exchange, self._principal
        room, call = self._offered.get(name, ("", None))
        if call is None:
            raise UnknownTool(name)
        try:
            check_call(app.authority, principal, call)
            desk, asked = desk_of(app, room), convert(arguments, call.takes)
            said = await perform_for(app, exchange, principal, desk, call, asked)
        except PermissionDenied as fault:
            origin, request_id = app.origin_of(exchange), exchange.request_id
            if act := denial_of(fault, principal, origin=origin, request_id=request_id):
                app.recorder.record(act)
            raise
        if isinstance(said, Download):
            raise InvalidRequest("this answer is a file, which no tool returns", hint="ask over HTTP")
        return {"content": [{"type": "text", "text": msgspec.json.encode(said).decode()}], "isError": False}


async def own_tools(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/mcp`."""
    desk = app.rooms.desks.get("mcp")
    section = desk.section if isinstance(desk, McpDesk) else None
    if section is None or not section.own_calls:
        raise SwitchedOff("calls of ashore are no tools here", hint="name them in own_calls under [mcp] in ashore.toml")
    check_origin(exchange, section.origins)
    tools = OwnTools(app, exchange, principal, section.own_calls)
    server = {"name": "ashore", "version": ashore.__version__}
    body = await exchange.body(replace(app.limits, max_body_bytes=BODY_BYTES))
    reply = await answer(body, exchange.headers, tools, server=server)
    await exchange.respond(reply.status, (JSON,), reply.body)


def check_own_calls(patterns: Sequence[str], where: str) -> None:
    """Check that each pattern offers a call.

    Raises:
        InvalidSpec: one offers none; the hint has the nearest name.
    """
    every = {f"{call.noun} {call.word}": call for _, call in _every()}
    for one in patterns:
        if any(_is_offered(call, (one,)) for call in every.values()):
            continue
        matched = [name for name in every if one[-1:] == "*" and name.startswith(one[:-1])]
        hint = f"name what changes something in full: {', '.join(matched[:5])}" if matched else did_you_mean(one, every)
        raise InvalidSpec(f"{where} own_calls has {one[:80]!r}, which offers no call", hint=hint)


def _every() -> Iterator[tuple[str, Call]]:
    """Yield the calls with one answer that is no file."""
    for room in rooms():
        yield from ((room.name, one) for one in room.calls if not one.streams and one.gives is not Download)


def _is_offered(call: Call, patterns: Sequence[str]) -> bool:
    """Return whether ashore.toml offers a call. One that may change something must be named in full."""
    named = f"{call.noun} {call.word}"
    matched = any(one[-1:] == "*" and named.startswith(one[:-1]) for one in patterns)
    return named in patterns or (matched and not call.changes)


@cache
def _definition(name: str, call: Call) -> Mapping[str, Any]:
    ((whole,), parts) = msgspec.json.schema_components([call.takes], ref_template="#/$defs/{name}")
    schema = parts.pop(whole["$ref"].rpartition("/")[2])
    for field, text in field_docs(call.takes).items():
        if field in schema["properties"]:
            schema["properties"][field] = {**schema["properties"][field], "description": text}
    hints = {"readOnlyHint": not call.changes, "destructiveHint": bool(call.sure) or call.method == "DELETE"}
    text = "\n\n".join(filter(None, (call.summary, call.details)))
    return {
        "name": name, "description": text, "annotations": hints,
        "inputSchema": {**schema, "$defs": parts} if parts else schema,
    }  # fmt: skip
