"""Pieces of an event stream that are sent from anywhere in the loop: in order, whatever the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ashore.core.errors import Overloaded
from ashore.data.http.exchange import ClientGone, Exchange
from ashore.data.underway import Bodies

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


class Line:
    """A server's side of an answer, whose client reads when it is told to."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.reads = asyncio.Event()
        self.gone = False

    def whole_body(self) -> bytes | None:
        return None

    def drop_body(self) -> None:
        self.sent.append(b"drop ")

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        raise AssertionError("a stream is no whole answer")

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.sent.append(b"head ")

    def write(self, piece: bytes) -> bool:
        if self.gone:
            raise ClientGone
        self.sent.append(piece)
        return self.reads.is_set()

    async def drain(self) -> None:
        await self.reads.wait()

    def on_gone(self, tell: Callable[[], None]) -> None:
        return


async def never() -> Any:
    raise AssertionError("nothing is asked for")


async def exchange_over(line: Line) -> Exchange:
    async def send(message: Any) -> None:
        line.sent.append(message.get("body", b"head "))

    return Exchange({**SCOPE, "ashore.direct": line}, never, send)


def test_what_a_slow_client_does_not_read_is_kept_in_order_and_counts_as_a_write_that_lasts() -> None:
    async def scenario() -> None:
        line = Line()
        exchange = await exchange_over(line)
        exchange.start_stream([])
        for piece in (b"a", b"b", b"c"):
            exchange.put(piece)
        await asyncio.sleep(0)
        assert line.sent == [b"head ", b"a"]
        assert exchange.writing_since > 0, "a sweep cuts off who reads nothing"
        line.reads.set()
        await exchange.end_stream(b"d")
        assert b"".join(line.sent) == b"head abcd"
        assert exchange.writing_since == 0
        exchange.close()

    asyncio.run(scenario())


def test_who_keeps_up_gets_each_piece_at_once() -> None:
    async def scenario() -> None:
        line = Line()
        line.reads.set()
        exchange = await exchange_over(line)
        exchange.start_stream([])
        for piece in (b"a", b"b"):
            exchange.put(piece)
        assert line.sent == [b"head ", b"a", b"b"]

    asyncio.run(scenario())


def test_what_is_sent_to_a_client_that_is_gone_is_dropped() -> None:
    async def scenario() -> None:
        line = Line()
        exchange = await exchange_over(line)
        exchange.start_stream([])
        exchange.put(b"a")
        exchange.put(b"b")
        line.gone = True
        line.reads.set()
        await asyncio.sleep(0.01)
        exchange.put(b"c")
        assert line.sent == [b"head ", b"a"]
        exchange.close()

    asyncio.run(scenario())


def test_what_a_refused_client_still_sends_is_dropped_by_the_server() -> None:
    async def scenario() -> None:
        line = Line()

        async def end() -> Any:
            assert line.sent == [b"drop "]
            return {"type": "http.request", "body": b"", "more_body": False}

        exchange = Exchange({**SCOPE, "headers": [(b"content-length", b"9")], "ashore.direct": line}, end, end)
        await exchange.linger()
        assert not exchange.unread

    asyncio.run(scenario())


def test_an_answer_for_which_there_is_no_room_is_not_begun() -> None:
    async def scenario() -> None:
        line, bodies = Line(), Bodies(1000, 500, free_bytes=10)
        exchange = await exchange_over(line)
        other, exchange.hold = bodies.hold("a", "bob"), bodies.hold("a", "bob")
        other.cover(400)
        with pytest.raises(Overloaded):
            await exchange.respond(200, [], b"x" * 200)
        assert exchange.status == 0 and not line.sent
        other.release()
        with pytest.raises(AssertionError, match="whole answer"):  # it is sent
            await exchange.respond(200, [], b"x" * 200)
        assert bodies.held_bytes == 190
        exchange.close()
        assert bodies.held_bytes == 0

    asyncio.run(scenario())
