"""`POST /mcp/NAME`: tools of another server, by the Model Context Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

import ashore
from ashore.core.addresses import split_url
from ashore.core.errors import NotReady, PermissionDenied, UnknownRoute
from ashore.data.authority import Principal
from ashore.data.http.exchange import Exchange
from ashore.data.http.face import names_this_machine
from ashore.data.http.streaming import JSON
from ashore.data.mcp import Caller, Gateway, answer

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

ENVELOPE_BYTES: Final = 4_096
"""What a request has beside the arguments of a tool."""


def check_origin(exchange: Exchange, origins: Sequence[str]) -> None:
    """Check that no page of another site sent a request.

    Raises:
        PermissionDenied: one did.
    """
    origin = exchange.headers.get(b"origin", b"").decode("latin-1")
    if origin and origin not in origins and not names_this_machine(split_url(origin).netloc or "-"):
        raise PermissionDenied(
            f"pages of {origin[:100]!r} may not call tools", hint="add the site to origins of [mcp], if it is yours"
        )


async def mcp(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /mcp/{server}`."""
    gateway, name = app.rooms.find(Gateway), exchange.argument
    if gateway is None:
        raise UnknownRoute(f"no such path: {exchange.path[:100]!r}", hint="start the server with `ashore up`")
    check_origin(exchange, gateway.section.origins)
    if app.serving.reception.lapsed:
        raise NotReady(app.serving.reception.lapsed, hint="see `ashore site status`")
    app.serving.reception.check_pressure(principal)
    caller = Caller(principal=principal, request_id=exchange.request_id, origin=exchange.origin, serving=app.serving)
    tools = gateway.at(name, caller)
    body = await exchange.body(replace(app.limits, max_body_bytes=tools.server.argument_bytes + ENVELOPE_BYTES))
    exchange.watch()
    server = {"name": f"ashore/{name}", "version": ashore.__version__}
    reply = await answer(body, exchange.headers, tools, server=server)
    if reply.method == "tools/call":
        await app.serving.recorded()
    await exchange.respond(reply.status, (JSON,), reply.body)
