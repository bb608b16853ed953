"""`/admin/v1/releases` and `/admin/v1/aliases`: what HTTP adds to the calls of releases: paths, queries and bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.access import Actor, Principal
from ashore.api import releasecalls as calls
from ashore.api.decode import convert, decode
from ashore.api.http.exchange import Exchange
from ashore.api.http.routes import Handler, Route
from ashore.api.http.streaming import JSON
from ashore.api.releasecalls import ReleaseCall

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

NO_STORE: Final = (b"cache-control", b"no-store")

_encode = msgspec.json.Encoder().encode


def _handler(call: ReleaseCall, *, in_body: bool) -> Handler:
    """Return what answers a route: a body of nothing at all means the defaults of everything."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(call.takes)
    known = [field.encode_name for field in msgspec.structs.fields(call.takes)]

    async def handle(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
        desk = calls.open_desk(app.releases)
        actor = Actor(principal=principal, origin=app.origin_of(exchange), request_id=exchange.request_id)
        if in_body:
            body = decode(await exchange.body(app.limits) or b"{}", decoder)
        else:
            query = exchange.query()
            body = convert({name: query[name] for name in known if name in query}, call.takes, texts=True)
        answer = await call.do(desk, actor, exchange.argument, body)
        await exchange.respond(200, [JSON, NO_STORE], _encode(answer))

    return handle


def _route(method: str, path: str, call: ReleaseCall) -> Route:
    in_body = method in ("POST", "PUT")
    fields = () if in_body else tuple(field.encode_name for field in msgspec.structs.fields(call.takes))
    return Route(
        method=method,
        path="/admin/v1" + path,
        guard="admin",
        action=call.action,
        asks_itself=True,
        handler=_handler(call, in_body=in_body),
        operation=f"releases_{call.do.__name__}",
        summary=call.summary,
        tag="Releases",
        request=call.takes if in_body else None,
        response=call.gives,
        query=fields,
    )


RELEASE_ROUTES: Final[tuple[Route, ...]] = (
    _route("GET", "/releases", calls.LIST_RELEASES),
    _route("POST", "/releases", calls.CREATE_RELEASE),
    _route("GET", "/releases/{release}", calls.GET_RELEASE),
    _route("GET", "/releases/{release}/evidence", calls.GET_EVIDENCE),
    _route("GET", "/releases/{release}/burn", calls.GET_BURN_RATES),
    _route("GET", "/releases/{release}/pairs", calls.GET_PAIRS),
    _route("POST", "/releases/{release}/shadow", calls.SHADOW_RELEASE),
    _route("POST", "/releases/{release}/canary", calls.CANARY_RELEASE),
    _route("POST", "/releases/{release}/promote", calls.PROMOTE_RELEASE),
    _route("POST", "/releases/{release}/retire", calls.RETIRE_RELEASE),
    _route("GET", "/aliases", calls.LIST_ALIASES),
    _route("GET", "/aliases/{alias}", calls.GET_ALIAS),
    _route("GET", "/aliases/{alias}/status", calls.GET_ALIAS_STATUS),
    _route("GET", "/aliases/{alias}/history", calls.GET_HISTORY),
    _route("PUT", "/aliases/{alias}", calls.SET_ALIAS),
    _route("DELETE", "/aliases/{alias}", calls.REMOVE_ALIAS),
    _route("POST", "/aliases/{alias}/rollback", calls.ROLL_BACK),
)
