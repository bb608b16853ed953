"""Makes an HTTP route of a declared call: decodes the request, runs the call, encodes the result."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.control.faces.eventstream import last_seen, send_events
from ashore.core.errors import NotReady, SwitchedOff
from ashore.core.principal import Principal
from ashore.data.http import Exchange
from ashore.data.http.dialect import plain_body
from ashore.data.http.exchange import JSON
from ashore.data.http.routes import Handler, Route
from ashore.kit.call import ADMIN, Actor, Call, Download, perform
from ashore.kit.decode import convert

if TYPE_CHECKING:
    from ashore.data.http import Face

CHUNK_BYTES: Final = 1 << 20
NO_STORE: Final = (b"cache-control", b"no-store")
_encode = msgspec.json.Encoder().encode


def routes_of(room: str, calls: Iterable[Call]) -> tuple[Route, ...]:
    """Return the routes of the calls of one room, whose desk the app has under the room's name."""
    return tuple(_route(room, call) for call in calls)


async def perform_for(
    app: Face, exchange: Exchange, principal: Principal, desk: object, call: Call, asked: msgspec.Struct
) -> Any:
    """Return what a call answers to a caller who may make it. Raises as the call."""
    actor = Actor(principal=principal, origin=app.origin_of(exchange), request_id=exchange.request_id)
    return await perform(
        call, desk, actor, asked, aside=app.path.read_aside, recorder=app.recorder, settle=app.settle,
        slow=app.slow,
    )  # fmt: skip


def desk_of(app: Face, room: str) -> object:
    """Return the desk of a room.

    Raises:
        SwitchedOff, NotReady: it is not open here.
    """
    desk = app.rooms.desks.get(room)
    if desk is None and (off := app.rooms.off.get(room)):
        raise SwitchedOff(f"{room} is off on this server", hint=f"set {off} in ashore.toml and restart it")
    if desk is None:
        raise NotReady(
            f"{room} needs a state database; this server runs without one", hint="start the server with `ashore up`"
        )
    return desk


def body_type(call: Call) -> type[msgspec.Struct]:
    """Return what a call takes without the fields that stand in its path; one type for all calls that take the same."""
    return _part(call.takes, call.in_path, False) if call.in_path else call.takes


@cache
def _part(takes: type[msgspec.Struct], in_path: tuple[str, ...], of_path: bool) -> type[msgspec.Struct]:
    """Return what a call takes in its path, or the rest."""
    hints = {field.name: field for field in msgspec.structs.fields(takes)}
    fields: list[Any] = [
        (name, field.type)
        if field.required
        else (name, field.type, msgspec.field(default=field.default))
        if field.default is not msgspec.NODEFAULT
        else (name, field.type, msgspec.field(default_factory=field.default_factory))
        for name, field in hints.items()
        if (name in in_path) == of_path
    ]
    return msgspec.defstruct(
        takes.__name__,
        fields,
        module=takes.__module__,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _route(room: str, call: Call) -> Route:
    takes = body_type(call)
    fields = tuple(field.encode_name for field in msgspec.structs.fields(takes))
    return Route(
        method=call.method,
        path=ADMIN + call.path,
        guard="operator" if call.operator else "admin" if call.action else "key",
        call=call,
        handler=_handler(room, call, takes),
        summary=call.summary.rstrip("."),
        tag=room.capitalize(),
        request=takes if call.has_body else None,
        response=None if call.gives is Download else call.gives,
        streams=call.streams,
        content_type=call.content_type,
        query=() if call.has_body else fields,
        operation=f"{call.noun} {call.word}".replace(" ", "_").replace("-", "_"),
    )


def _handler(room: str, call: Call, takes: type[msgspec.Struct]) -> Handler:
    decoder = msgspec.json.Decoder(takes)
    in_path = _part(call.takes, call.in_path, True)

    async def handle(app: Face, exchange: Exchange, principal: Principal) -> None:
        desk = desk_of(app, room)
        named = convert(dict.fromkeys(call.in_path, exchange.argument), in_path, texts=True)
        if call.has_body:
            given = await plain_body(app, exchange, principal, decoder)
        else:
            given = convert(exchange.query(), takes, texts=True)
        if call.streams and (seen := last_seen(exchange)) is not None:
            given = msgspec.structs.replace(given, after=seen)
        asked = given
        if call.in_path:
            parts = (given, named)
            asked = call.takes(**{name: getattr(part, name) for part in parts for name in part.__struct_fields__})
        answer = await perform_for(app, exchange, principal, desk, call, asked)
        if isinstance(answer, Download) and call.streams:
            await send_events(app, exchange, answer.content, partial(app.may_still, call, exchange, principal))
        elif isinstance(answer, Download):
            disposition = f'attachment; filename="{answer.file_name}"'.encode()
            headers = [(b"content-type", answer.content_type.encode()), (b"content-disposition", disposition)]
            if isinstance(answer.content, bytes):
                await exchange.respond(200, [*headers, NO_STORE], answer.content)
                return
            with answer.content as file:
                await exchange.start_download([*headers, NO_STORE])
                while chunk := file.read(CHUNK_BYTES):
                    await exchange.write(chunk)
                await exchange.end_stream()
        else:
            await exchange.respond(200, [JSON, NO_STORE], _encode(answer))

    return handle
