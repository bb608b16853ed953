"""Passes a request on to another process of this machine by its unix socket, and the answer back, piece by piece."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import httptools

from ashore.core.errors import AshoreError, NotReady, Overloaded
from ashore.core.wholenumber import whole_number
from ashore.data.http.exchange import ClientGone, Exchange, Headers, Receive, Scope, Send
from ashore.data.http.server.cycle import Application
from ashore.data.path import Limits
from ashore.kit.call import is_for_control

INTERNAL: Final = b"x-ashore-internal-"
"""Headers of this beginning are between our processes: the edge and this relay remove what a client sends."""
PEER: Final = INTERNAL + b"peer"
"""Address of the client of the process that passes a request on; without it the socket's own peer asks."""
SCHEME: Final = INTERNAL + b"scheme"
"""`https`, where that process ended TLS."""
OF_CONNECTION: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    )
)
"""Headers that each connection has for itself."""
MOST_AT_ONCE: Final = 1_024
"""Requests of one worker that wait for another process, so that clients of a hung one leave connections to others."""
MOST_OF_ONE: Final = 128
"""Those of one client, so that slow bodies and open streams of events leave room for others."""
MOST_STARTING: Final = 8
"""Of them, those that connect at the same time: between two of them, streams have their turns."""
PIECE_BYTES: Final = 65_536
CONNECT_S: Final = 3.0
"""How long a request waits for a process that is being started."""
AGAIN_S: Final = 0.05


class Relay:
    """Passes requests on to one process."""

    def __init__(self, socket: str, *, what: str = "the control process") -> None:
        """Create it. `socket`: where that process listens for HTTP. `what`: its name in errors."""
        self._socket = socket
        self._what = what
        self._waiting: Counter[str] = Counter()
        """Requests by client."""
        self._starting = asyncio.Semaphore(MOST_STARTING)

    def takes(self, path: str) -> bool:
        """Return whether a path is the control process's."""
        return is_for_control(path)

    async def pass_on(
        self,
        exchange: Exchange,
        limits: Limits,
        *,
        whose: str,
        path: str = "",
        extra: Headers = (),
        reword: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Pass a request on, and its answer back.

        Args:
            exchange: The request.
            limits: Bounds of its body.
            whose: Address or name of the client that it counts for.
            path: Asked instead of the request's own.
            extra: Headers in place of the client's of the same names.
            reword: Changes the body of an error.

        Raises:
            NotReady: the process does not answer; it is being started again.
            Overloaded: too many requests wait for it, or too many of this client.
            AshoreError: the body is too long, or did not come in time.
        """
        if self._waiting.total() >= MOST_AT_ONCE:
            raise Overloaded(f"{MOST_AT_ONCE} requests wait for {self._what}", hint="try again in a few seconds")
        if self._waiting[whose] >= MOST_OF_ONE:
            raise Overloaded(f"{MOST_OF_ONE} requests of yours wait for {self._what}", hint="end some of them first")
        self._waiting[whose] += 1
        try:
            reader, writer = await self._connect()
            sending = asyncio.create_task(_send(exchange, writer, limits, _head(exchange, path, extra)))
            try:
                await self._answer(exchange, reader, sending, reword)
            finally:
                sending.cancel()
                with suppress(asyncio.CancelledError, AshoreError, ClientGone):
                    await sending
                writer.close()
        finally:
            self._waiting[whose] -= 1
            if not self._waiting[whose]:
                del self._waiting[whose]

    async def _answer(
        self,
        exchange: Exchange,
        reader: asyncio.StreamReader,
        sending: asyncio.Task[None],
        reword: Callable[[bytes], bytes] | None,
    ) -> None:
        answer = _Answer(is_head=exchange.method == "HEAD")
        if not exchange.unread:
            exchange.watch()
        while not answer.is_whole:
            try:
                data = await reader.read(PIECE_BYTES)
                answer.parser.feed_data(data)
            except (OSError, httptools.HttpParserError):
                break
            if not data:
                break
            if reword is not None and answer.status >= 400:
                continue
            if answer.status and not exchange.status:
                await exchange.pass_head(answer.status, answer.headers)
            if answer.pieces and exchange.status:
                pieces, answer.pieces = b"".join(answer.pieces), []
                await exchange.write(pieces)
        if answer.is_whole and not exchange.status and reword is not None:
            headers = [pair for pair in answer.headers if pair[0] != b"content-length"]
            await exchange.pass_head(answer.status, headers)
            await exchange.end_stream(reword(b"".join(answer.pieces)))
            return
        if answer.is_whole:
            await exchange.end_stream()
            return
        if sending.done() and not sending.cancelled() and (fault := sending.exception()) is not None:
            raise fault
        raise self._is_away()  # what broke off after its head stays incomplete

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ends_s = time.monotonic() + CONNECT_S
        while True:
            try:
                async with self._starting:
                    return await asyncio.open_unix_connection(self._socket, limit=PIECE_BYTES)
            except OSError as fault:
                if time.monotonic() > ends_s:
                    raise self._is_away() from fault
            await asyncio.sleep(AGAIN_S)

    def _is_away(self) -> NotReady:
        return NotReady(
            f"{self._what} does not answer", hint="it is started again by itself; try again in a few seconds"
        )


class Peers:
    """An application whose requests other processes of this machine pass on: their clients are its clients.

    For a unix socket alone, which nobody but the owner of the home and the edge can reach, and the edge removes these
    headers.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope.get("ashore.headers") or dict(scope["headers"])
        if (peer := headers.get(PEER)) is not None and scope.get("client") is None:
            scope["client"] = (peer.decode("latin-1"), 0)
            if headers.get(SCHEME) == b"https":
                scope["scheme"] = "https"
        await self._app(scope, receive, send)


class _Answer:
    """What has come of an answer. Called by the parser."""

    def __init__(self, *, is_head: bool) -> None:
        self.status = 0
        """0 until the whole head has come."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.is_whole = False
        self.parser: Final = httptools.HttpResponseParser(self)
        self._is_head = is_head

    def on_header(self, name: bytes, value: bytes) -> None:
        if (name := name.lower()) not in OF_CONNECTION or name in (b"content-length", b"x-request-id"):
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:  # an interim answer; the client's own server sends one where it is needed
            self.headers.clear()
            return
        self.status, self.is_whole = status, self._is_head

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.is_whole = self.status > 0


def _head(exchange: Exchange, path: str, extra: Headers) -> bytes:
    """Return the head of the request for the other process: that of the client, without what belongs to its connection
    and without what only our processes may say.
    """
    scope = exchange.scope
    target = path.encode()
    if not target:
        query: bytes = scope.get("query_string", b"")
        target = scope.get("raw_path") or exchange.path.encode()
        target += b"?" + query if query else b""
    given: Sequence[tuple[bytes, bytes]] = scope["headers"]
    named = {name for name, _ in extra}
    headers = [
        (name, value)
        for name, value in given
        if name not in OF_CONNECTION and name not in named and not name.startswith(INTERNAL)
    ]
    headers += [*extra, (b"x-request-id", exchange.request_id.encode()), (b"connection", b"close")]
    if exchange.client_host:
        headers.append((PEER, exchange.client_host.encode()))
    if scope.get("scheme") == "https":
        headers.append((SCHEME, b"https"))
    if exchange.unread:
        length = exchange.headers.get(b"content-length", b"")
        known = whole_number(length) is not None and b"transfer-encoding" not in exchange.headers
        headers.append((b"content-length", length) if known else (b"transfer-encoding", b"chunked"))
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (exchange.method.encode(), target, lines)


async def _send(exchange: Exchange, writer: asyncio.StreamWriter, limits: Limits, head: bytes) -> None:
    """Send head and body. What the body is refused for closes the connection, and is raised."""
    writer.write(head)
    if not exchange.unread:
        return
    is_chunked = head.endswith(b"transfer-encoding: chunked\r\n\r\n")
    try:
        async for piece in exchange.chunks(most_bytes=limits.max_body_bytes, silence_s=limits.body_read_timeout_s):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            await writer.drain()
        if is_chunked:
            writer.write(b"0\r\n\r\n")
    except OSError:  # it answers without reading the rest
        return
    except BaseException:
        writer.transport.abort()
        raise
