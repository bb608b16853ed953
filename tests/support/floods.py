"""What a client without a key can do to a server, kept up for some seconds: each flood is a coroutine of a port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rawh2 import CONTINUATION, HEADERS, RawH2, frame, hpack

WRONG = ("authorization", "Bearer wrong")
MESSAGE = b"\0" + (16_000_000).to_bytes(4, "big") + b"x" * 16_379
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
WRONG_LINE = b"authorization: Bearer wrong\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a flood goes, and how long."""

    port: int
    seconds: float
    tls: ssl.SSLContext | None = None
    connections: int = 64

    @property
    def ends_at(self) -> float:
        return time.monotonic() + self.seconds


Flood = Callable[[Target], Awaitable[None]]


async def many(target: Target, one: Callable[[Target], Awaitable[None]], num: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(num):
            group.create_task(_again(target, one))


async def _again(target: Target, one: Callable[[Target], Awaitable[None]]) -> None:
    """Do it again whenever the server has ended it, as an attacker would."""
    ends_at = target.ends_at
    while time.monotonic() < ends_at:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + ends_at - time.monotonic()):
                await one(target)
        await asyncio.sleep(0.01)


async def _pour(target: Target, head: bytes, piece: bytes, *, reads: bool = True) -> None:
    """Send a head, and pieces until the server ends it."""
    name = "localhost" if target.tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port, ssl=target.tls, server_hostname=name)
    try:
        if not reads:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(head)
        while True:
            if piece:
                writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001 if piece else 0.5)
            if reads and reader.at_eof():
                return
    finally:
        writer.transport.abort()


async def silent(target: Target) -> None:
    """Connect, shake hands, and say nothing."""
    await many(target, lambda one: _pour(one, b"", b""), target.connections)


async def heads(target: Target) -> None:
    """Begin heads as long as they may be, and do not end them."""
    begun = POST + b"x: " + b"y" * (31_000 if target.tls else 62_000)
    await many(target, lambda one: _pour(one, begun, b""), target.connections)


async def bodies(target: Target) -> None:
    """Send bodies of 16 MiB with a wrong key."""
    head = POST + WRONG_LINE + b"content-length: 16777216\r\n\r\n"
    await many(target, lambda one: _pour(one, head, b"x" * 65_536), target.connections)


async def trailers(target: Target) -> None:
    """Send trailers without end."""
    head = POST + WRONG_LINE + b"transfer-encoding: chunked\r\n\r\n0\r\n"
    await many(target, lambda one: _pour(one, head, b"a1: b\r\n" * 5000), 8)


async def ahead(target: Target) -> None:
    """Send requests one behind the other, and read no answer."""
    asked = (POST + WRONG_LINE + b"content-length: 2\r\n\r\n{}") * 100
    await many(target, lambda one: _pour(one, b"", asked, reads=False), target.connections)


async def _fill(target: Target, path: str, *pairs: tuple[str, str]) -> None:
    connection = await RawH2.connect(target.port, tls=target.tls)
    try:
        streams: dict[int, int] = {}
        while not connection.closed:
            while len(streams) < 100:
                streams[connection.head(path, *pairs)] = 0
            for stream, sent in list(streams.items()):
                if stream in connection.answered:
                    del streams[stream]
                elif sent < 15_990_000:
                    streams[stream] += connection.send(stream, MESSAGE if not sent else MESSAGE[5:])
            await connection.writer.drain()
            await asyncio.sleep(0.001)
    finally:
        await connection.close()


async def calls(target: Target) -> None:
    """Send messages of gRPC that do not come to their end, without a key."""
    await many(target, lambda one: _fill(one, "/ashore.v1.Inference/Chat"), 2)


async def calls_with_wrong_key(target: Target) -> None:
    """The same with a wrong one."""
    await many(target, lambda one: _fill(one, "/ashore.v1.Inference/ChatStream", WRONG), 2)


async def health_calls(target: Target) -> None:
    """The same to what needs no key."""
    await many(target, lambda one: _fill(one, "/grpc.health.v1.Health/Check"), 2)


async def _reset(target: Target) -> None:
    connection = await RawH2.connect(target.port, tls=target.tls)
    try:
        while not connection.closed:
            for _ in range(50):
                connection.reset(connection.head("/ashore.v1.Inference/Chat", WRONG, end=True))
            await connection.writer.drain()
            await asyncio.sleep(0.001)
    finally:
        await connection.close()


async def resets(target: Target) -> None:
    """Begin calls and reset them at once."""
    await many(target, _reset, 4)


async def _continue(target: Target) -> None:
    connection = await RawH2.connect(target.port, tls=target.tls)
    try:
        connection.writer.write(frame(HEADERS, 0, 1, hpack((":method", "GET"), (":scheme", "http"), (":path", "/"))))
        while not connection.closed:
            connection.writer.write(frame(CONTINUATION, 0, 1, hpack(("x-a", "y" * 16_000))))
            await connection.writer.drain()
            await asyncio.sleep(0.001)
    finally:
        await connection.close()


async def continuations(target: Target) -> None:
    """Send heads of HTTP/2 without end."""
    await many(target, _continue, 8)


async def _unread(target: Target) -> None:
    connection = await RawH2.connect(target.port, tls=target.tls, settings=((4, 0),))
    try:
        begun = 0
        while not connection.closed:
            while begun < len(connection.ended) + 100:
                connection.head("/v1/chat/completions", end=True, grpc=False)
                begun += 1
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def unread_answers(target: Target) -> None:
    """Ask on HTTP/2 and let no byte of an answer through."""
    await many(target, _unread, target.connections // 4)


OVER_HTTP1: tuple[Flood, ...] = (silent, heads, bodies, trailers, ahead)
OVER_GRPC: tuple[Flood, ...] = (calls, calls_with_wrong_key, health_calls, resets, continuations)
OVER_HTTP2: tuple[Flood, ...] = (*OVER_GRPC, unread_answers)
