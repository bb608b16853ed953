"""Streams of events, to whoever may listen for as long as they may."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from ashore.api.http.exchange import EVENT_STREAM, Exchange
from ashore.core import whole_number

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

NO_STORE: Final = (b"cache-control", b"no-store")


async def send_events(
    app: HttpApp, exchange: Exchange, content: AsyncGenerator[bytes], may_still: Callable[[], Awaitable[bool]]
) -> None:
    """Send a stream until the client leaves, the server drains, or the caller may no longer.

    Args:
        app: Says whether the server drains.
        exchange: The request.
        content: The pieces; empty ones only ask whether to go on.
        may_still: Asked between two pieces.
    """
    exchange.watch()
    async with aclosing(content):
        await exchange.start_download([*(one for one in EVENT_STREAM if one[0] != NO_STORE[0]), NO_STORE])
        async for piece in content:
            if app.serving.state == "draining" or not await may_still():
                break
            if piece:
                await exchange.write(piece)
    await exchange.end_stream()


def last_seen(exchange: Exchange) -> int | None:
    """Return the number that a client that comes back read last; None: it says none."""
    return whole_number(exchange.headers.get(b"last-event-id", b""))
