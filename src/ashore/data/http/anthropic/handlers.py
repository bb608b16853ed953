"""Handlers of the Anthropic routes: parse, call, render."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ashore.data.authority import Principal
from ashore.data.http.anthropic.dialects import COUNT_READER, MESSAGES_READER
from ashore.data.http.anthropic.parse import to_count, to_generation
from ashore.data.http.anthropic.render import MessageEvents, render_message
from ashore.data.http.anthropic.types import CountOut
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.streaming import send_answer, standing_headers, stream_answer, whole_answer

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

_encode = msgspec.json.Encoder().encode


async def messages(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/messages`."""
    exchange.extra_headers.append((b"request-id", exchange.request_id.encode()))
    make = partial(to_generation, exchange=exchange)
    request, generation = await MESSAGES_READER.made_of(app, exchange, principal, make)
    exchange.model = generation.model[:64]
    answer = partial(app.serving.answer, generation, principal)
    if request.stream:
        loads = partial(app.serving.loads, generation.model)
        await stream_answer(exchange, answer, MessageEvents(exchange), loads=loads)
        return
    exchange.watch()
    whole = await whole_answer(answer, 1, exchange.hold)
    await send_answer(exchange, whole, render_message(whole, exchange))


async def count_tokens(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/messages/count_tokens`."""
    request, counted = await COUNT_READER.made_of(app, exchange, principal, partial(to_count, exchange=exchange))
    exchange.model = request.model[:64]
    tokens = await app.serving.tokens.count(counted, principal)
    headers = [JSON, *standing_headers(app.serving.standing(principal, request.model))]
    await exchange.respond(200, headers, _encode(CountOut(tokens)))
