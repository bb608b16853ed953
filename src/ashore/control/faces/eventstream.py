"""Streams of events, for as long as the caller is authorised."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from ashore.core.wholenumber import whole_number
from ashore.data.http import Exchange

if TYPE_CHECKING:
    from ashore.data.http import Face

MOST: Final = 2**62
"""More than any event has."""
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


async def send_events(
    app: Face, exchange: Exchange, content: AsyncGenerator[bytes], may_still: Callable[[], Awaitable[bool]]
) -> None:
    """Send a stream until the client leaves, the server drains, or the caller is no longer authorised.

    Args:
        app: Reports whether the server drains.
        exchange: The request.
        content: The pieces; an empty one only triggers the checks.
        may_still: Called between two pieces.
    """
    exchange.watch()
    async with aclosing(content):
        await exchange.start_download(HEADERS)
        async for piece in content:
            if app.path.draining or not await may_still():
                break
            if piece:
                await exchange.write(piece)
    await exchange.end_stream()


def last_seen(exchange: Exchange) -> int | None:
    """Return the number of the last event that a reconnecting client read; None: missing or impossible."""
    number = whole_number(exchange.headers.get(b"last-event-id", b""))
    return number if number is not None and number < MOST else None
