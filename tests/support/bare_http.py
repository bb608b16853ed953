"""Our HTTP server over small applications, and raw bytes to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ashore.data.http import HttpServer, listen
from ashore.data.path import HttpListen, Limits

App = Callable[[Any, Any, Any], Awaitable[None]]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with method, path, query and body, in one piece of known length."""
    body = await whole(receive)
    said = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} ".encode() + body
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


async def direct(scope: Any, receive: Any, send: Any) -> None:
    """Answer as `echo` does, without messages where the whole body is here; say so."""
    body = scope["ashore.direct"].whole_body()
    how = b"messages" if body is None else b"direct"
    said = how + b" " + (await whole(receive) if body is None else body)
    assert scope["ashore.direct"].whole_body() is None, "it was taken"
    scope["ashore.direct"].answer(200, [(b"content-length", b"%d" % len(said))], said)
    assert (await receive())["type"] == "http.disconnect"


async def stream(scope: Any, receive: Any, send: Any) -> None:
    """Answer in three pieces of unknown length."""
    await whole(receive)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"a", b"", b"bc"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"d", "more_body": False})


async def whole(receive: Any) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


@asynccontextmanager
async def serving(app: App, limits: Limits | None = None) -> AsyncIterator[tuple[HttpServer, int]]:
    sock = listen(HttpListen(host="127.0.0.1", port=0))
    port = sock.getsockname()[1]
    server = HttpServer(app, sock, limits or Limits())
    server.start()
    try:
        yield server, port
    finally:
        await server.stop(1.0)


async def talk(port: int, raw: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes, or says nothing for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    seen = await silence(reader)
    writer.close()
    return seen


async def silence(reader: asyncio.StreamReader, wait_s: float = 0.3) -> bytes:
    seen = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while part := await asyncio.wait_for(reader.read(65536), wait_s):
            seen += part
    return seen


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))
