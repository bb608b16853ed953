"""The server of HTTP/1.1 itself, on raw sockets, with applications that behave and that do not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bare_http import direct, echo, run, serving, silence, stream, talk, whole

from ashore.core.errors import AshoreError


def test_an_answer_of_known_length_and_the_connection_goes_on() -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            seen = await talk(
                port,
                b"GET /a%20b/%E4%BD%A0?x=1 HTTP/1.1\r\nhost: x\r\n\r\n"
                b"POST /c HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nxyz",
            )
        first, _, second = seen.partition(b"x=1 ")
        assert b"GET /a b/\xe4\xbd\xa0" in first
        assert second.endswith(b"POST /c  xyz")
        assert b"connection: close" not in seen

    run(body)


def test_a_body_that_is_here_and_a_whole_answer_need_no_messages() -> None:
    async def body() -> None:
        async with serving(direct) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n"
            writer.write(head + b"abc" + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + head + b"de")
            seen = await silence(reader)
            assert seen.count(b"HTTP/1.1 200 OK") == 2 and b"direct abc" in seen and seen.endswith(b"direct ")
            writer.write(b"f")
            assert (await silence(reader)).endswith(b"messages def")
            writer.close()

    run(body)


def test_pieces_are_chunked_or_end_with_the_connection() -> None:
    async def body() -> None:
        async with serving(stream) as (_, port):
            new = await talk(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            old = await talk(port, b"GET / HTTP/1.0\r\n\r\n")
            kept = await talk(port, b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        assert new.endswith(b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n")
        for seen in (old, kept):
            assert seen.endswith(b"connection: close\r\n\r\nabcd")
            assert b"chunked" not in seen

    run(body)


def test_head_has_no_body_and_the_next_request_is_answered() -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            seen = await talk(port, b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n")
        head, _, rest = seen.partition(b"\r\n\r\n")
        assert b"content-length: 9" in head
        assert rest.startswith(b"HTTP/1.1 200 OK")
        assert rest.endswith(b"GET /b  ")

    run(body)


def test_a_body_is_asked_for_where_the_client_waits_for_that() -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            assert (await silence(reader)).endswith(b"POST /  hi")
            writer.close()

    run(body)


def test_a_client_that_waits_and_is_refused_never_sends_its_body() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def body() -> None:
        async with serving(refuse) as (_, port):
            seen = await talk(port, b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert seen == b"HTTP/1.1 413 Request Entity Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" or (
            seen == b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )

    run(body)


def test_chunks_of_a_request_come_together() -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            seen = await talk(
                port,
                b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
                b"2\r\nab\r\n3;ext=1\r\ncde\r\n0\r\n\r\n",
            )
        assert seen.endswith(b"POST /  abcde")

    run(body)


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"content-length: +3\r\n\r\nabc",
        b"content-length : 3\r\n\r\nabc",
        b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"x: a\nb: c\r\n\r\n",
        b"x: a\x00b\r\n\r\n",
        b" folded: x\r\n\r\n",
        b"authorization: Bearer a\r\nx: y\r\nauthorization: Bearer b\r\n\r\n",
        b"host: other\r\n\r\n",
    ],
)
def test_what_smuggles_a_request_past_an_edge_is_refused(head: bytes) -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            begin, more = b"POST / HTTP/1.1\r\nhost: x\r\n", b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
            seen = await talk(port, begin + head + more)
        assert seen.startswith(b"HTTP/1.1 400")
        assert seen.count(b"HTTP/1.1") == 1

    run(body)


@pytest.mark.parametrize(
    ("asked", "end"),
    [
        (b"GET http://x:1/a%20b?c=d", b"GET /a b c=d "),
        (b"GET http://x", b"GET /  "),
        (b"GET http://x?c", b"GET / c "),
        (b"OPTIONS *", b"OPTIONS *  "),
        (b"GET http://a://b/c", b""),
        (b"GET http://x:99999/c", b""),
    ],
)
def test_a_target_in_absolute_form_is_read_whole_or_refused(asked: bytes, end: bytes) -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            seen = await talk(port, asked + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert seen.startswith(b"HTTP/1.1 200" if end else b"HTTP/1.1 400")
        assert seen.endswith(end)

    run(body)


def test_chunks_in_a_request_of_http_1_0_are_refused() -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            seen = await talk(port, b"POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        assert seen.startswith(b"HTTP/1.1 400")

    run(body)


async def headers_and_body(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the headers as they stand when the body is whole, or with the error that came in its place."""
    try:
        body = await whole(receive)
    except AshoreError as fault:
        scope["ashore.direct"].answer(fault.http_status, [], b"")
        return
    said = b",".join(name for name, _ in scope["headers"]) + b"|" + body
    scope["ashore.direct"].answer(200, [(b"content-length", b"%d" % len(said))], said)


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def test_trailers_never_become_headers() -> None:
    async def body() -> None:
        async with serving(headers_and_body) as (_, port):
            seen = await talk(port, CHUNKED + b"2\r\nab\r\n0\r\nauthorization: Bearer x\r\nvia: y\r\n\r\n" + CHUNKED)
        assert seen.endswith(b"host,transfer-encoding|ab")

    run(body)


@pytest.mark.parametrize(
    "trailers",
    [b"a: b\r\n" * 102, b"a: %b\r\n" % (b"b" * 30_000) * 4, b"a: " + b"b" * 200_000],
    ids=["too many", "too long together", "one without end"],
)
@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["ended", "not ended"])
def test_trailers_beyond_the_limits_of_headers_end_the_connection_with_431(trailers: bytes, end: bytes) -> None:
    async def body() -> None:
        async with serving(headers_and_body) as (_, port):
            seen = await talk(port, CHUNKED + b"2\r\nab\r\n0\r\n" + trailers + end)
        assert seen.startswith(b"HTTP/1.1 431") and seen.count(b"HTTP/1.1") == 1 and b"connection: close" in seen

    run(body)


@pytest.mark.parametrize(
    "chunks", [b"-1\r\n", b"0x2\r\nab\r\n", b"2\r\nabX", b"2\nab\n0\n\n", b"zz\r\n", b"2;" + b"x" * 200_000]
)
def test_a_malformed_chunk_is_refused_at_once(chunks: bytes) -> None:
    async def body() -> None:
        async with serving(headers_and_body) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(CHUNKED + b"2\r\nab\r\n" + chunks)
            seen = await asyncio.wait_for(reader.read(), 5)
            assert seen.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")) and seen.count(b"HTTP/1.1") == 1
            writer.close()

    run(body)


def test_one_that_sends_nothing_more_and_waits_gets_all_of_its_answers() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.15)
        await echo(scope, receive, send)

    async def body() -> None:
        async with serving(slow) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /one HTTP/1.1\r\nhost: x\r\n\r\nGET /two HTTP/1.1\r\nhost: x\r\n\r\n")
            writer.write_eof()
            seen = await asyncio.wait_for(reader.read(), 5)
            assert b"GET /one" in seen and seen.endswith(b"GET /two  ")
            writer.close()

    run(body)


def test_unfinished_heads_are_held_up_to_a_sum_over_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.http.server.server.HELD_BYTES", 64 << 10)

    async def body() -> None:
        async with serving(echo) as (server, port):
            head = b"GET / HTTP/1.1\r\nhost: x\r\nx: "
            flood = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
            for sent in range(6):
                for _, writer in flood:
                    writer.write((b"" if sent else head) + b"y" * 10_000)
                await asyncio.sleep(0.02)
            assert server.is_short and server.held < (64 << 10) + 8 * (16 << 10)
            assert (await talk(port, b"GET /good HTTP/1.1\r\nhost: x\r\n\r\n")).endswith(b"GET /good  ")
            for connection in list(server._connections):
                connection.sweep(server.loop.time() + 3600)
            await asyncio.sleep(0.05)
            assert server.held == 0 and not server.is_short, "heads that do not come to their end are cut off"
            for _, writer in flood:
                writer.close()

    run(body)


def test_an_upgrade_is_answered_as_what_it_was_before() -> None:
    async def body() -> None:
        async with serving(echo) as (_, port):
            seen = await talk(
                port, b"GET /u HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05hello"
            )
        assert seen.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in seen
        assert seen.endswith(b"GET /u  ")

    run(body)


def test_a_body_behind_an_offer_of_an_upgrade_is_read() -> None:
    """As Java's HttpClient sends its first request."""
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n"
    head = b"POST /u HTTP/1.1\r\nhost: x\r\n" + offer

    async def body() -> None:
        async with serving(echo) as (_, port):
            next_one = b"GET /v HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            seen = await talk(port, head + b"content-length: 5\r\n\r\nhello" + next_one)
            assert b"POST /u  hello" in seen and seen.endswith(b"GET /v  "), seen
            seen = await talk(port, head + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + next_one)
            assert b"POST /u  hello" in seen and seen.endswith(b"GET /v  "), seen

    run(body)


def test_an_application_that_announced_another_length_is_cut_off() -> None:
    async def short(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"short"})

    async def body() -> None:
        async with serving(short) as (_, port):
            assert b"short" not in await talk(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")

    run(body)


def test_an_application_that_ends_without_an_answer_or_in_its_middle_is_cut_off() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def body() -> None:
        async with serving(silent) as (_, port):
            assert await talk(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") == b""
            half = await talk(port, b"GET /half HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"0\r\n\r\n" not in half

    run(body)


def test_a_line_break_in_a_header_never_reaches_a_client() -> None:
    async def split(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nset-cookie: b")]})
        await send({"type": "http.response.body", "body": b""})

    async def body() -> None:
        async with serving(split) as (_, port):
            assert b"set-cookie" not in await talk(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")

    run(body)
