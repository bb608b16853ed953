"""One connection of HTTP/1.1: parses bytes into calls of the application, one after the other, and writes the answers.

All of it runs in the loop that reads the socket, so that a ready answer is written in the same turn, and a token
without waking another thread. llhttp (`httptools`) parses messages, strictly.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote_to_bytes

import httptools

from ashore.core.errors import AshoreError, HeadersTooLarge, InvalidRequest
from ashore.data.http.exchange import Scope
from ashore.data.http.server.cycle import Application, Cycle
from ashore.data.path import Limits

MAX_HEADER_BYTES: Final = 65_536
"""Request line and headers together; more is answered with 431 and the connection closed. Trailers have as much."""
MAX_HEADERS: Final = 100
SINGLE: Final = frozenset((b"authorization", b"host", b"x-api-key", b"x-ashore-on-behalf-of"))
"""Headers of which a second one is answered with 400: which of the two counts would differ from server to server."""
MAX_AHEAD: Final = 16
"""Requests that a client may send before the first of them is answered; the rest stays in its socket."""
REQUEST_BYTES: Final = 4096
"""Overhead of a waiting request besides its bytes, approximately."""
PIECE_BYTES: Final = 4096
"""Parsed at once: one read may hold hundreds of small requests, each of which takes far more than its bytes."""
PIECE_BYTES_WHEN_SHORT: Final = 512
MAX_UNREAD_BYTES: Final = 256 << 10
"""Limit of request bytes held for an application that reads more slowly than the client writes."""
MAX_UNREAD_WHEN_SHORT: Final = 16 << 10
"""The same, while all connections together hold more than `server.HELD_BYTES`."""
MAX_UNWRITTEN_BYTES: Final = 16 << 10
"""Limit of answer bytes held for a client that reads more slowly than the application writes; the socket's own buffer
comes first.
"""

LINGER_S: Final = 1.0
"""After the refusal of an invalid message, how long further bytes are read and dropped."""
GONE_LOOK_S: Final = 0.01
"""After the end of what a client sends, and bytes to it, when to look whether they came back; then at every sweep."""

_task: Callable[..., asyncio.Task[None]] = (
    partial(cast("Any", asyncio.Task), eager_start=True) if sys.version_info >= (3, 12) else asyncio.Task
)
"""Begins at once where Python can: most answers that are kept are written before it returns."""


class Server(Protocol):
    """The server, as seen by a connection that it accepted."""

    stopping: bool
    is_short: bool
    """Whether all connections together hold more than they should."""

    @property
    def app(self) -> Application: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def buffer(self) -> memoryview:
        """The read buffer of the loop, shared by all connections in turn."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def hold(self, num_bytes: int) -> None:
        """Add a change in the bytes of requests that no application has taken."""
        ...

    def opened(self, connection: Connection) -> bool:
        """Count a connection; return whether its address may have one more."""
        ...

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        ...


class Connection(asyncio.BufferedProtocol):
    """The connection of one client."""

    __slots__ = (
        "_again",
        "_ahead",
        "_begun",
        "_closing_since",
        "_cycle",
        "_drained",
        "_fault",
        "_half_closed",
        "_head_bytes",
        "_headers",
        "_held",
        "_in_head",
        "_last",
        "_num_trailers",
        "_parsed",
        "_parser",
        "_paused",
        "_quiet_bytes",
        "_rest",
        "_server",
        "_tail_bytes",
        "_target",
        "_trailer_bytes",
        "_waiting_since",
        "client",
        "is_clogged",
        "lost",
        "transport",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._cycle: Cycle | None = None
        """Being answered."""
        self._parsed: Cycle | None = None
        """Request whose body is being read: the one being answered, or one ahead of it."""
        self._ahead: deque[Cycle] = deque()
        self._again = b""
        """Head of a request that offers an upgrade and has a body, without the offer."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._head_bytes = 0
        """That came since the message before it ended."""
        self._quiet_bytes = 0
        """Behind the head, since the last piece of a body: trailers, and what stands beside the size of a chunk."""
        self._num_trailers = self._trailer_bytes = 0
        self._rest = b""
        """Received bytes that are not parsed yet."""
        self._tail_bytes = 0
        """At most so much of the head came in the same read as the end of the message before it."""
        self._in_head = True
        self._begun = False
        """Whether a byte of the message that is read has come."""
        self._held = 0
        """Bytes that came and that no application has taken."""
        self._half_closed = False
        """Whether the client sends nothing more, and may still read."""
        self._last = False
        """Whether nothing more is taken from this client."""
        self._fault = 0
        """Status for an invalid message, once one was seen."""
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self.is_clogged = False
        """Whether the client reads slower than we write."""
        self._waiting_since = server.loop.time()
        """For the next request; 0: from the next sweep on."""
        self._closing_since = 0.0
        self.client: tuple[str, int] | None = None
        self.lost = False

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client = (str(peer[0]), int(peer[1]))
        transport.set_write_buffer_limits(high=MAX_UNWRITTEN_BYTES)
        if not self._server.opened(self):
            self._refuse(429)
        elif self._server.stopping:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        del self._parser  # it knows this connection
        self._ahead.clear()
        self._count_held()
        self.resume_writing()
        if self._cycle is not None:
            self._cycle.disconnect()
        self._server.lost(self)

    def eof_received(self) -> bool:
        """Answer complete requests that came before; return whether the connection stays open for that.

        An end of input looks the same whether the client waits for its answer or is gone. A client that is gone answers
        the next bytes with a reset: pieces of a stream, or, before the head, an interim response.
        """
        if self.transport.get_extra_info("ssl_object") is not None:
            return False  # TLS has no half-closed connections here
        cycle = self._cycle or (self._ahead[0] if self._ahead else None)  # the next one, between two answers
        if cycle is None or not cycle.is_read or self._parsed is not None or self._hung_up:
            return False
        self._last = self._half_closed = True
        if not cycle.say_wait():
            return False
        self._server.loop.call_later(GONE_LOOK_S, self._look_whether_gone)
        return True

    def _look_whether_gone(self) -> None:
        if self._half_closed and not self.lost and self._hung_up:
            self.abort()

    @property
    def _hung_up(self) -> bool:
        return self.transport.is_closing() or self._polled(0) & (select.POLLHUP | select.POLLERR) != 0

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the shared read buffer: the parser takes all of it before another connection reads."""
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._last:
            return
        self._parse(self._server.buffer[:nbytes])
        self._go_on()

    def _parse(self, data: memoryview) -> None:
        """Parse received bytes piece by piece; keep the rest unparsed once enough requests wait."""
        step = PIECE_BYTES_WHEN_SHORT if self._server.is_short else PIECE_BYTES
        if len(data) <= step:
            self._parse_piece(data)
            return
        for at in range(0, len(data), step):
            if at and (self._last or self._is_full()):
                self._rest = b"" if self._last else bytes(data[at:])
                return
            self._parse_piece(data[at : at + step])
            self._count_held()

    def _parse_rest(self) -> None:
        while self._rest and not self._holds_enough:
            rest, self._rest = self._rest, b""
            self._parse(memoryview(rest))
            self._count_held()

    def _parse_piece(self, data: memoryview) -> None:
        nbytes = len(data)
        if self._in_head:
            self._head_bytes += nbytes
        else:
            self._quiet_bytes += nbytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if self._again:
                again, self._again = self._again, b""
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(again)
                self._parse_piece(data[stop.args[0] :])
                return
            self._last = True  # the request is answered as HTTP/1.1; what follows it is not
        except httptools.HttpParserCallbackError:
            self._fault = self._fault or 500
        except httptools.HttpParserError as fault:
            self._fault = self._fault or (413 if "Content-Length overflow" in str(fault) else 400)
        if (self._head_bytes if self._in_head else self._quiet_bytes) > MAX_HEADER_BYTES:
            self._fault = self._fault or 431
        if self._fault:
            self._last = True
            if self._parsed is not None:
                self._parsed.break_off(_fault_in_body(self._fault))
                self._parsed = None
        if self._begun and self._in_head and not self._head_bytes:
            self._tail_bytes = nbytes

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._server.loop.create_future()
            self.is_clogged = True

    def resume_writing(self) -> None:
        drained, self._drained, self.is_clogged = self._drained, None, False
        if drained is not None and not drained.done():
            drained.set_result(None)

    # Called by the parser

    def on_message_begin(self) -> None:
        self._begun, self._tail_bytes = True, 0
        self._headers, self._target = [], b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name.lower(), value))
            return
        self._num_trailers += 1  # counted and dropped, so that it is not taken for a header
        self._trailer_bytes += len(name) + len(value) + 4
        if self._trailer_bytes > MAX_HEADER_BYTES or self._num_trailers > MAX_HEADERS:
            self._fault = self._fault or 431

    def on_headers_complete(self) -> None:
        if self._fault:
            return  # bytes after a broken message do not change why it is refused
        parser, headers, target = self._parser, self._headers, self._target
        version = parser.get_http_version()
        head_bytes = len(target) + sum(map(len, chain.from_iterable(headers))) + 4 * len(headers)
        if head_bytes > MAX_HEADER_BYTES or len(headers) > MAX_HEADERS:
            self._fault = 431
            return
        if version not in ("1.1", "1.0"):
            self._fault = 505
            return
        named = dict(headers)
        if _is_ambiguous(headers, named, version):
            self._fault = 400
            return
        if parser.should_upgrade() and (b"transfer-encoding" in named or named.get(b"content-length", b"0") != b"0"):
            self._again = _without_offer(parser.get_method(), target, headers, version)
            return
        try:
            scope = _scope(parser.get_method(), target, headers, version, self.client)
        except httptools.HttpParserInvalidURLError:
            self._fault = 400
            return
        scope["ashore.headers"] = named
        self._in_head = False
        self._quiet_bytes = self._num_trailers = self._trailer_bytes = 0
        self._parsed = Cycle(
            self,
            scope,
            keeps=parser.should_keep_alive() and not parser.should_upgrade(),
            expects=b"expect" in named and any(_expects(*header) for header in headers),
            head_bytes=head_bytes,
        )
        self._ahead.append(self._parsed)

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        if self._parsed is not None:
            self._parsed.feed(body)

    def on_message_complete(self) -> None:
        if self._fault or self._again:
            return
        if self._parsed is not None:
            self._parsed.feed_end()
            self._last = self._last or not self._parsed.keeps
        self._parsed = None
        self._in_head, self._begun, self._head_bytes = True, False, 0

    # Called by the cycle being answered

    @property
    def closes_next(self) -> bool:
        """Whether the current answer is the last on this connection."""
        return self._server.stopping or (self._last and not self._ahead)

    async def drain(self) -> None:
        """Wait until the client has read most of what was written, or is gone."""
        while self._drained is not None:
            await asyncio.shield(self._drained)

    def read_more(self) -> None:
        """Resume reading after it was paused because too much waited."""
        if self.lost or not (self._held or self._rest or self._paused):
            return
        self._count_held()
        self._parse_rest()
        if self._paused and not self._is_full():
            self._paused = False
            self.transport.resume_reading()

    # Called by the server

    def sweep(self, now: float) -> None:
        """Close an idle connection: a head that does not arrive, or the end of an answer that is not read."""
        limits = self._server.limits
        if self._closing_since:
            if now - self._closing_since > limits.write_stall_timeout_s:
                self.abort()
        elif self._half_closed and self._hung_up:
            self.abort()
        elif self._cycle is not None:
            self.read_more()
        elif self._waits_too_long(now) and (self._paused or not self._has_unread):
            self._close()
        else:
            self._waiting_since = self._waiting_since or now
            self.read_more()
            if self._ahead or self._fault:
                self._go_on()

    def _waits_too_long(self, now: float) -> bool:
        return self._waiting_since > 0 and now - self._waiting_since > self._server.limits.header_read_timeout_s

    def close_when_idle(self) -> None:
        """Close now, or after the answer to the current or an already received request."""
        if self._cycle is None and self._has_unread:
            return
        self._last = True
        if self._cycle is None:
            self._close()

    @property
    def _has_unread(self) -> bool:
        """Whether received bytes are still unread by the loop. Closing such a connection resets it, and the request
        is lost."""
        if self.lost or self.transport.is_closing():
            return False
        return bool(self._rest) or self._polled(select.POLLIN) != 0

    def _polled(self, events: int) -> int:
        looks = select.poll()
        looks.register(self.transport.get_extra_info("socket").fileno(), events)
        return sum(seen for _, seen in looks.poll(0))

    def abort(self) -> None:
        """Close without writing pending bytes."""
        self.transport.abort()

    # The order of requests

    def _go_on(self) -> None:
        """Start the next request if none is being answered, and pause reading while too much waits."""
        if self._cycle is None:
            if self._rest:
                self._parse_rest()
            if self._ahead:
                self._begin(self._ahead.popleft())
            elif self._fault:
                self._refuse(self._fault)
        if self.lost or not (self._cycle or self._begun or self._ahead or self._rest or self._held):
            return  # mostly the answer is written by now, and nothing is held
        self._count_held()
        self._parse_rest()
        if not self._paused and not self._half_closed and not self._closing_since and self._is_full():
            self._paused = True
            self.transport.pause_reading()

    def _is_full(self) -> bool:
        return bool(self._rest) or self._holds_enough

    @property
    def _holds_enough(self) -> bool:
        most = MAX_UNREAD_WHEN_SHORT if self._server.is_short else MAX_UNREAD_BYTES
        return len(self._ahead) > MAX_AHEAD or self._held > most

    def _count_held(self) -> None:
        """Report to the server the bytes that this connection holds."""
        held = 0
        if not self.lost:
            if self._begun and self._in_head:
                held = self._head_bytes + self._tail_bytes
            if self._cycle is not None:
                held += self._cycle.unread
            for cycle in self._ahead:
                held += cycle.head_bytes + cycle.unread + REQUEST_BYTES
            held += len(self._rest)
        if held != self._held:
            self._server.hold(held - self._held)
            self._held = held

    def _begin(self, cycle: Cycle) -> None:
        self._cycle = cycle
        server = self._server
        task = _task(server.app(cycle.scope, cycle.receive, cycle.send), loop=server.loop)
        if task.done():
            self._ended(task)
        else:
            cycle.task = task
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        cycle, self._cycle = self._cycle, None
        assert cycle is not None
        cycle.let_go()
        if task.cancelled() or task.exception() is not None or not cycle.is_answered:
            self.abort()  # a partial answer must not look whole
        elif self.lost:
            return
        elif self._fault and not cycle.is_read:
            self._close_unread()
        elif cycle.ends_connection or not cycle.is_read or (self._server.stopping and not self._ahead):
            self._close()  # its head may have been written before the stop, without `close`
        elif self._half_closed and not self._ahead:
            self._close()
        else:
            self._waiting_since = 0.0
            self.read_more()
            if self._ahead or self._fault or self._rest:
                self._server.loop.call_soon(self._go_on)

    def _refuse(self, status: int) -> None:
        if not self._closing_since and not self.lost:
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % (status, REFUSALS[status])
            )
            self._close_unread()

    def _close_unread(self) -> None:
        """Close when the client has read the answer: closing on a client that still sends would reset the connection
        and lose it. Further bytes are dropped."""
        self._last, self._rest, self._closing_since = True, b"", self._server.loop.time()
        self.transport.write_eof()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._server.loop.call_later(LINGER_S, self._close)

    def _close(self) -> None:
        self._last = True
        self._closing_since = self._server.loop.time()
        self.transport.close()


REFUSALS: Final = {
    400: b"Bad Request",
    413: b"Content Too Large",
    429: b"Too Many Requests\r\nretry-after: 1",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    505: b"HTTP Version Not Supported",
}


def _is_ambiguous(headers: list[tuple[bytes, bytes]], named: dict[bytes, bytes], version: str) -> bool:
    """Return whether the next server on the way, or llhttp, may read the head differently from us."""
    if len(named) < len(headers) and any(_comes_twice(name, headers) for name in SINGLE):
        return True
    if b"transfer-encoding" not in named:
        return False
    if version == "1.0":
        return True
    # llhttp would read a body in another form to the end of the connection
    return any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in headers)


def _comes_twice(name: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    return sum(one == name for one, _ in headers) > 1


def _expects(name: bytes, value: bytes) -> bool:
    return name == b"expect" and value.lower() == b"100-continue"


def _fault_in_body(status: int) -> AshoreError:
    if status == 431:
        return HeadersTooLarge(
            f"the trailers have more than {MAX_HEADER_BYTES:,} bytes or {MAX_HEADERS} fields",
            hint="send that data in the headers or the body; ashore ignores trailers",
        )
    return InvalidRequest("the chunked body is malformed", hint="check the chunk sizes and line ends")


def _without_offer(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], version: str) -> bytes:
    """Return the head of a request without its offer to go on in another protocol, as Java's client makes with each
    first request. llhttp reads no body behind an offer; a server that does not take it must (RFC 9110, 7.8)."""
    closes = any(name == b"connection" and b"close" in value.lower() for name, value in headers)
    kept = [one for one in headers if one[0] not in (b"connection", b"upgrade", b"http2-settings")]
    lines = [b"%s: %s\r\n" % one for one in (*kept, *([(b"connection", b"close")] if closes else ()))]
    return b"%s %s HTTP/%s\r\n%s\r\n" % (method, target, version.encode(), b"".join(lines))


def _scope(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], version: str, client: tuple[str, int] | None
) -> Scope:
    if not target.startswith(b"/") and target != b"*":  # absolute form, or the authority of a CONNECT
        url = httptools.parse_url(target) if b"://" in target else None
        target = b"/" if url is None else b"%b?%b" % (url.path or b"/", url.query or b"")
    raw_path, _, query = target.partition(b"?")
    path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": version,
        "method": method.decode("ascii"),
        "scheme": "http",
        "path": path.decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": client,
        "server": None,
    }
