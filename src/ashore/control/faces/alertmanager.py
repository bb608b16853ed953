"""`POST /admin/alertmanager`: alerts of an Alertmanager, as its webhook sends them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from ashore.control.alerts import RECEIVE, AlertOffice, ReceivedAlerts, receive
from ashore.control.faces.admin import desk_of
from ashore.core.principal import Principal
from ashore.data.http import JSON, Exchange
from ashore.kit.call import SETTLE_S, Actor
from ashore.kit.decode import decode
from ashore.kit.rights import SERVER

if TYPE_CHECKING:
    from ashore.data.http import Face

MOST_BYTES: Final = 1 << 20
_alerts: Final = msgspec.json.Decoder(ReceivedAlerts)


async def take(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/alertmanager`."""
    app.authority.require(principal, RECEIVE, SERVER)
    office = desk_of(app, "alert")
    assert isinstance(office, AlertOffice)
    app.recorder.check_acts()
    sent = decode(await exchange.body(replace(app.limits, max_body_bytes=MOST_BYTES)), _alerts)
    actor = Actor(principal=principal, origin=app.origin_of(exchange), request_id=exchange.request_id)
    taken = await asyncio.to_thread(receive, office, actor, sent)
    await asyncio.to_thread(app.recorder.settle, SETTLE_S)
    await exchange.respond(200, [JSON], msgspec.json.encode(taken))
