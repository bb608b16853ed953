"""Requests over kept connections, against servers that answer whatever they like."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from syslog_server import certificate

from ashore.core.errors import PermissionDenied
from ashore.kit.egress import LOOPBACK, parse_allow, resolve
from ashore.kit.lines import Lines

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
MOST = 200_000


class Server:
    """Sends one of `answers` for each request that comes; counts connections, and keeps what came."""

    def __init__(self, *answers: Iterable[bytes] | bytes) -> None:
        self.answers = [[one] if isinstance(one, bytes) else one for one in answers]
        self.connections = 0
        self.came: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                number = int(head.lower().partition(b"content-length: ")[2].split()[0])
                self.came.append(head + await reader.readexactly(number))
                for piece in self.answers.pop(0):
                    if not piece:
                        writer.close()
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


async def one(lines: Lines, url: str) -> tuple[int, bytes]:
    async with lines.post(url, {"x-a": "b"}, b"{}", resolver=resolve, most_bytes=MOST) as answer:
        return answer.status, b"".join([piece async for piece in answer.pieces()])


def run(
    server: Server, work: Callable[[Lines, str], Coroutine[Any, Any, Any]], trust: ssl.SSLContext | None = None
) -> Any:
    """Run a piece of work beside a server, within some seconds."""

    async def both() -> Any:
        lines = Lines(parse_allow(LOOPBACK), 4)
        async with asyncio.timeout(20), await asyncio.start_server(server, "127.0.0.1", 0, ssl=trust) as listening:
            try:
                scheme = "http" if trust is None else "https"
                return await work(lines, f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp?a=1")
            finally:
                lines.close()

    return asyncio.run(both())


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        [OK[at : at + 1] for at in range(len(OK))],
        CHUNKED + b"1\r\no\r\n1;more=2\r\nk\r\n0\r\nx-trailer: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK,
        [b"HTTP/1.0 200 OK\r\n\r\no", b"k", b""],
    ],
)
def test_an_answer_is_read_in_whatever_form_it_comes(answer: Any) -> None:
    server = Server(answer)
    assert run(server, one) == (200, b"ok")
    assert (
        server.came[0].startswith(b"POST /mcp?a=1 HTTP/1.1\r\nhost: 127.0.0.1:") and b"\r\nx-a: b\r\n" in server.came[0]
    )


def test_a_connection_is_kept_for_the_next_request_and_not_where_it_was_closed() -> None:
    async def work(lines: Lines, url: str) -> list[tuple[int, bytes]]:
        found = [await one(lines, url), await one(lines, url), await one(lines, url)]
        await asyncio.sleep(0.05)  # the server closes it
        return [*found, await one(lines, url)]

    server = Server(OK, OK, [OK, b""], OK)
    assert run(server, work) == [(200, b"ok")] * 4
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "too long"),
        ([CHUNKED] + [b"1;" + b"x" * 4_000 + b"\r\no\r\n"] * 100, "too long"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500000\r\n\r\n" + b"x" * 500_000, "too long"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", b""], "broke off"),
        ([CHUNKED + b"2\r\nok\r\n", b""], "broke off"),
        ([b""], "broke off"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\nconnection: upgrade\r\n\r\n", "does not speak"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok", "does not speak"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", "does not speak"),
    ],
)
def test_what_is_no_whole_answer_is_an_error(answer: Any, why: str) -> None:
    with pytest.raises(ConnectionError, match=why):
        run(Server(answer), one)


def test_an_answer_that_nobody_asked_for_reaches_no_later_request() -> None:
    async def work(lines: Lines, url: str) -> list[Any]:
        found = []
        for _ in range(2):
            try:
                found.append(await one(lines, url))
            except ConnectionError:
                found.append((0, b""))
            await asyncio.sleep(0.05)
        return found

    forged = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
    for answer in (OK + forged, [OK, forged], OK + forged[:-3], OK + forged[:20]):
        server = Server(answer, OK)
        found = run(server, work)
        assert set(found) <= {(200, b"ok"), (0, b"")} and server.connections == 2, (answer, found)


def test_trailers_are_no_headers_and_a_request_that_was_not_sent_whole_is_not_followed_by_another() -> None:
    async def work(lines: Lines, url: str) -> tuple[dict[str, str], bool]:
        async with lines.post(url, {}, b"{}", resolver=resolve, most_bytes=MOST) as answer:
            [piece async for piece in answer.pieces()]
            headers = dict(answer.headers)
        async with lines.post(url, {}, b"x" * 20_000_000, resolver=resolve, most_bytes=MOST) as answer:
            assert [piece async for piece in answer.pieces()] == [b"ok"]
        return headers, answer.is_free

    class Early(Server):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            writer.write(CHUNKED + b"2\r\nok\r\n0\r\nmcp-session-id: forged\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            while await reader.read(1 << 16):  # slower than it comes
                await asyncio.sleep(0.01)
            writer.close()

    headers, is_free = run(Early(), work)
    assert headers == {"transfer-encoding": "chunked"} and not is_free


def test_a_header_cannot_end_the_head() -> None:
    async def work(lines: Lines, url: str) -> None:
        headers = {"authorization": "Bearer a\r\nx-evil: 1"}
        async with lines.post(url, headers, b"", resolver=resolve, most_bytes=MOST):
            pass

    server = Server(OK)
    with pytest.raises(ConnectionError, match="line break"):
        run(server, work)
    assert server.came == []


def test_only_allowed_addresses_are_called_and_a_name_is_checked_by_its_address() -> None:
    async def away(host: str, port: int) -> Sequence[str]:
        return ["169.254.169.254"]

    async def work(lines: Lines, url: str) -> None:
        port = url.partition("//")[2].partition("/")[0].partition(":")[2]
        async with lines.post(f"http://localhost:{port}/", {}, b"", resolver=away, most_bytes=MOST):
            pass

    with pytest.raises(PermissionDenied):
        run(Server(OK), work)


def test_a_slow_reader_holds_little_and_closing_ends_who_waits() -> None:
    async def work(lines: Lines, url: str) -> int:
        async with lines.post(url, {}, b"", resolver=resolve, most_bytes=1 << 30) as answer:
            await asyncio.sleep(0.3)
            held = answer._num_queued
            asyncio.get_running_loop().call_later(0.1, lines.close)
            with pytest.raises(ConnectionError, match="closed by a change"):
                async for _ in answer.pieces():
                    pass
            return held

    endless = itertools.chain([CHUNKED], itertools.repeat(b"10000\r\n" + b"x" * 65_536 + b"\r\n"))
    assert run(Server(endless), work) < 1 << 20


def test_a_certificate_that_nobody_trusts_is_refused(tmp_path: Path) -> None:
    _, chain, key = certificate(tmp_path)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(chain, key)
    server = Server(OK)
    with pytest.raises(ssl.SSLCertVerificationError):
        run(server, one, trust)
    assert server.came == []
