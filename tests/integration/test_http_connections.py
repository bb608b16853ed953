"""Connections of our HTTP server: how many, held back, closed, stopped."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from functools import partial
from typing import Any

import pytest
from bare_http import echo, run, serving, silence, talk, whole

from ashore.data.http import HttpServer, listen
from ashore.data.http.server.connection import Connection
from ashore.data.path import HttpListen, Limits


def test_connections_of_one_address_over_its_share_are_refused_and_others_served() -> None:
    async def body() -> None:
        async with serving(echo, Limits(max_connections=8, connections_per_address=2)) as (_, port):
            get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert (await talk(port, b"")).startswith(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1")
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            writer.write(get)
            assert (await silence(reader)).startswith(b"HTTP/1.1 200")
            writer.close()
            held[0][1].close()
            await asyncio.sleep(0.05)
            assert (await talk(port, get)).startswith(b"HTTP/1.1 200"), "a place became free"
            held[1][1].close()

    run(body)


def test_connections_over_the_limit_wait_and_are_then_served() -> None:
    async def body() -> None:
        async with serving(echo, Limits(max_connections=2)) as (_, port):
            open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for _, writer in open_ones:
                writer.write(b"GET /in HTTP/1.1\r\nhost: x\r\n\r\n")
            for reader, _ in open_ones:
                assert b"GET /in" in await silence(reader)
            third, writer = await asyncio.open_connection("127.0.0.1", port)  # in the kernel's queue
            writer.write(b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await silence(third) == b""
            open_ones[0][1].close()
            assert b"GET /late" in await silence(third, 2.0)
            writer.close()
            open_ones[1][1].close()

    run(body)


def test_one_that_sends_ahead_without_end_is_held_back_and_answered_in_order() -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for number in range(3000):
                writer.write(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number)
            for number in range(3000):
                await reader.readuntil(b"GET /%d  " % number)
            writer.close()

    run(body)


def test_a_body_that_nobody_reads_stays_in_the_socket() -> None:
    read = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await read.wait()
        await echo(scope, receive, send)

    async def body() -> None:
        async with serving(slow) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            size = 32 << 20
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
            writer.write(b"x" * size)
            await asyncio.sleep(0.3)
            held = max(one._parsed.unread for one in server._connections if one._parsed is not None)
            assert 0 < held < 2 << 20
            read.set()
            seen = 0
            while seen < size:
                seen += len(await reader.read(1 << 20))
            writer.close()

    run(body)


def test_of_a_body_that_was_refused_nothing_is_kept_and_its_end_is_told() -> None:
    size, seen, held, ended = 4 << 20, [], [], []

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        cycle = scope["ashore.direct"]
        cycle.answer(401, [(b"content-length", b"0")], b"")
        cycle.drop_body()
        while (message := await receive())["type"] != "http.disconnect":
            seen.append(len(message["body"]))
        ended.append(cycle.is_read)

    async def body() -> None:
        async with serving(refusing) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
            for _ in range(size // 65_536):
                writer.write(b"x" * 65_536)
                await writer.drain()
                await asyncio.sleep(0)
                held.append(server.held)
            assert (await silence(reader)).startswith(b"HTTP/1.1 401")
            writer.close()

    run(body)
    assert ended == [True] and sum(seen) == 0 and max(held) <= 65_536


def test_pieces_written_at_once_are_framed_like_any_and_tell_when_the_client_does_not_keep_up() -> None:
    held: list[int] = []

    async def at_once(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        cycle = scope["ashore.direct"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert all(cycle.write(piece) for piece in (b"a", b"", b"bc"))
        if scope["path"] == "/long":
            while cycle.write(b"x" * 10_000):
                held.append(10_000)
            await cycle.drain()
            assert cycle.write(b"y")
        await send({"type": "http.response.body", "body": b"d", "more_body": False})
        with pytest.raises(RuntimeError, match="after its end"):
            cycle.write(b"late")

    async def body() -> None:
        async with serving(at_once) as (_, port):
            new = await talk(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            old = await talk(port, b"GET / HTTP/1.0\r\n\r\n")
            head = await talk(port, b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert new.endswith(b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n")
            assert old.endswith(b"connection: close\r\n\r\nabcd") and head.endswith(b"\r\n\r\n")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.sleep(0.2)
            assert 0 < sum(held) < 64 << 20, "no more than the buffers of two sockets and ours"
            seen = await silence(reader)
            assert seen.endswith(b"1\r\ny\r\n1\r\nd\r\n0\r\n\r\n") and seen.count(b"x") == sum(held) + 10_000
            writer.close()

    run(body)


def test_a_client_that_goes_is_told_to_whoever_asks() -> None:
    gone = asyncio.Event()

    async def watcher(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        if (await receive())["type"] == "http.disconnect":
            gone.set()

    async def body() -> None:
        async with serving(watcher) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
            assert not gone.is_set()
            writer.close()
            await asyncio.wait_for(gone.wait(), 2)

    run(body)


def test_who_asks_to_be_called_hears_that_the_client_went_and_nothing_of_one_that_was_answered() -> None:
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        await whole(receive)
        scope["ashore.direct"].on_gone(lambda: told.append(path))
        if path == "/late":
            await asyncio.sleep(0.1)
            scope["ashore.direct"].on_gone(lambda: told.append("after it went"))
            await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def body() -> None:
        async with serving(app) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /answered HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.write(b"GET /late HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.sleep(0.05)
            assert told == []
            writer.close()
            await asyncio.sleep(0.2)
            assert told == ["/late", "after it went"]

    run(body)


def test_a_request_that_has_ended_leaves_nothing_to_the_collector() -> None:
    kept: list[weakref.ref[Any]] = []

    class Thing:
        """Something of a request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["thing"] = thing = Thing()
        kept.append(weakref.ref(thing))
        await whole(receive)
        scope["ashore.direct"].on_gone(partial(print, scope))
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def body() -> None:
        gc.disable()
        try:
            async with serving(app) as (_, port):
                await talk(port, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert [one() for one in kept] == [None]
        finally:
            gc.enable()

    run(body)


def test_a_stop_lets_answers_end_and_says_that_they_are_the_last() -> None:
    go_on = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await echo(scope, receive, send)

    async def body() -> None:
        async with serving(slow) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            idle, kept = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /last HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.sleep(0.05)
            stopping = asyncio.create_task(server.stop(5.0))
            assert await asyncio.wait_for(idle.read(), 2) == b""
            go_on.set()
            seen = await asyncio.wait_for(reader.read(), 2)
            assert b"connection: close" in seen
            assert seen.endswith(b"GET /last  ")
            await asyncio.wait_for(stopping, 2)
            with pytest.raises(OSError, match=r"[Rr]efused"):
                socket.create_connection(("127.0.0.1", port), 1)
            kept.close()
            writer.close()

    run(body)


class Keeping(HttpServer):
    """Shows its connections."""

    def opened(self, connection: Connection) -> bool:
        self.latest = connection
        return super().opened(connection)


@pytest.mark.parametrize("by", ["a sweep", "a stop"])
def test_a_request_that_came_in_the_moment_in_which_its_idle_connection_is_closed_is_answered(by: str) -> None:
    async def body() -> None:
        sock = listen(HttpListen(host="127.0.0.1", port=0))
        server = Keeping(echo, sock, Limits())
        server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
        await asyncio.sleep(0.05)
        writer.write(b"GET /now HTTP/1.1\r\nhost: x\r\n\r\n")
        stopping = None
        if by == "a sweep":  # in the same turn: the loop has read nothing yet
            server.latest.sweep(server.loop.time() + 3600)
        else:
            server.stopping = True
            server.latest.close_when_idle()
            stopping = asyncio.create_task(server.stop(5.0))
        seen = await asyncio.wait_for(reader.readuntil(b"/now  "), 5)
        assert seen.startswith(b"HTTP/1.1 200")
        assert (b"connection: close" in seen) == (by == "a stop")
        writer.close()
        await (stopping or server.stop(1.0))

    run(body)


def test_a_stop_does_not_wait_for_the_connection_of_an_answer_that_had_begun_before_it() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"ended", "more_body": False})

    async def body() -> None:
        async with serving(slow) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await reader.readuntil(b"begun\r\n")
            stopping = asyncio.create_task(server.stop(60.0))
            await asyncio.sleep(0.05)
            go.set()
            assert await asyncio.wait_for(reader.read(), 5) == b"5\r\nended\r\n0\r\n\r\n", (
                "the whole answer, and then the end"
            )
            await stopping
            writer.close()

    run(body)


def test_an_answer_that_nobody_reads_to_its_end_does_not_hold_a_stop() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    async def body() -> None:
        async with serving(endless) as (server, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.sleep(0.1)
            began = asyncio.get_running_loop().time()
            await server.stop(0.3)
            assert asyncio.get_running_loop().time() - began < 1
            writer.close()

    run(body)
