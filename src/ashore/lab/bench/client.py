"""A very light HTTP/1.1 client for streamed answers.

It shares the processor with the measured server, so it does as little as possible during an answer: once text has
begun, it only records arrival times and bytes, and parses them when the answer has ended. It keeps the last few events
and decodes them afterwards. One connection carries one request at a time and is reused.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from ashore.core.errors import InvalidRequest
from ashore.kit.identity import trust

TAIL_EVENTS = 6
"""Events kept from the end: the finish reason, the usage and `[DONE]`, with room for servers that send more."""

PUT_OFF = 256
"""Pieces of one answer that are kept as they came, at most."""
LAST_CHUNK = b"0\r\n\r\n"
READ_BYTES = 65_536
"""Taken from a connection at once."""

TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "text", "arguments")
TEXT_MARKS = tuple(f'"{name}":{space}"'.encode() for name in TEXT_FIELDS for space in ("", " "))


@dataclass(slots=True)
class Reply:
    """Response to one request; events are bytes without their separator."""

    sent_at: float
    status: int = 0
    error: str = ""
    event_times: list[float] = field(default_factory=list)
    first_text: int = -1
    """Index of the first event that carried text; -1: none did."""
    tail: deque[bytes] = field(default_factory=lambda: deque(maxlen=TAIL_EVENTS))
    events: list[bytes] | None = None
    """Every event, where the caller asked for them."""
    body: bytes = b""
    """The whole body of an answer that is no event stream."""
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """Target of the requests."""

    host: str
    port: int
    tls: bool
    base: str
    """Path before `/chat/completions`, `/v1` as a rule."""

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read `http://host:port[/v1]`.

        Raises:
            InvalidRequest: it is not such an address.
        """
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError as exc:
            raise InvalidRequest(f"{url!r} has no valid port", hint="http://127.0.0.1:8080") from exc
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(f"{url!r} is not an http or https URL", hint="http://127.0.0.1:8080")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/") or "/v1")

    def request(self, method: str, path: str, *, key: str = "", body: bytes = b"") -> bytes:
        """Return the bytes of one request. It bypasses the cache: a cached answer measures no model."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"{method} {self.base}{path} HTTP/1.1", f"host: {host}:{self.port}", "accept: */*"]
        lines.append("cache-control: no-store")
        if key:
            lines.append(f"authorization: Bearer {key}")
        if body:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


def has_text(event: bytes) -> bool:
    """Return whether an event carries text, reasoning or tool-call arguments that are not empty."""
    for mark in TEXT_MARKS:
        at = event.find(mark)
        if at >= 0 and event[at + len(mark) : at + len(mark) + 1] != b'"':
            return True
    return False


class Connection(asyncio.BufferedProtocol):
    """One connection. `send` one request, await its `Reply`, then `send` the next if `reusable`."""

    def __init__(self, buffer: memoryview | None = None) -> None:
        """Create it. `buffer` is the loop's read buffer; connections of one loop may share it, because each piece is
        copied out before the next one arrives.
        """
        self._buffer = memoryview(bytearray(READ_BYTES)) if buffer is None else buffer
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[Reply] | None = None
        self._begin(0.0)
        self.reusable = True

    def _begin(self, sent_at: float) -> None:
        import httptools

        self._answer = Reply(sent_at)
        self._parser = httptools.HttpResponseParser(self)
        self._now = 0.0
        """When the bytes came that are parsed now."""
        self._later: list[tuple[bytes, float]] = []
        """Pieces that were not taken apart yet."""
        self._pending = self._separator = b""
        self._chunked = self._is_stream = self._has_length = False
        self._body_parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(
        self, request: bytes, *, started_at: float | None = None, keep_events: bool = False
    ) -> asyncio.Future[Reply]:
        """Write a request and return the future of its response. `started_at` is when its user started to wait."""
        if self._transport is None:
            raise RuntimeError("send before connection_made")
        self._begin(time.perf_counter() if started_at is None else started_at)
        if keep_events:
            self._answer.events = []
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def abort(self, error: str) -> None:
        """End the running request with `error` and drop the connection."""
        self._catch_up()
        self._finish(error)
        self.close()

    def close(self) -> None:
        """Drop the connection. May be called twice."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._catch_up()
        whole = self._answer.status and not self._has_length and exc is None
        self._finish("" if whole else "connection lost")

    def eof_received(self) -> None:
        return None

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take received data, in pieces of any size."""
        self._later.append((data, time.perf_counter()))
        may_end = data.endswith(b"\r\n\r\n") or len(data) < len(LAST_CHUNK)
        if may_end or not self._chunked or self._answer.first_text < 0 or len(self._later) >= PUT_OFF:
            self._catch_up()

    def _catch_up(self) -> None:
        """Parse what came meanwhile."""
        import httptools

        later, self._later = self._later, []
        try:
            for data, self._now in later:
                self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self.reusable = False
            self._finish(f"not HTTP: {fault}")

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.lower()
        if name == b"content-type":
            self._is_stream = value.startswith(b"text/event-stream")
        elif name == b"transfer-encoding":
            self._chunked = self._has_length = value.endswith(b"chunked")
        elif name == b"content-length":
            self._has_length = True
        elif name == b"connection" and value == b"close":
            self.reusable = False

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self._finish("")

    def on_body(self, data: bytes) -> None:
        if not self._is_stream:
            self._body_parts.append(data)
            return
        if self._pending:
            data = self._pending + data
        if not self._separator:
            newline = data.find(b"\n")
            if newline < 0:
                self._pending = data
                return
            self._separator = b"\r\n\r\n" if data[newline - 1 : newline] == b"\r" else b"\n\n"
        *events, self._pending = data.split(self._separator)
        answer = self._answer
        for event in events:
            if event.startswith(b":"):
                continue  # A keep-alive comment is not an event.
            if answer.first_text < 0 and has_text(event):
                answer.first_text = len(answer.event_times)
            answer.event_times.append(self._now)
            answer.tail.append(event)
            if answer.events is not None:
                answer.events.append(event)

    def _finish(self, error: str) -> None:
        done, self._done = self._done, None
        if done is None or done.done():
            return
        answer = self._answer
        answer.error = error
        answer.body = b"".join(self._body_parts)
        answer.ended_at = answer.event_times[-1] if answer.event_times and not error else time.perf_counter()
        done.set_result(answer)


class Pool:
    """Connections to one server; as many as are in use at once."""

    def __init__(self, target: Target, *, timeout_s: float, ca_file: str = "") -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._idle: list[Connection] = []
        self._tls = trust("the benchmark", ca_file) if target.tls else None

    async def ask(self, request: bytes, *, started_at: float | None = None, keep_events: bool = False) -> Reply:
        """Send one request and return its response; errors are in `Reply.error`, never raised."""
        began = time.perf_counter() if started_at is None else started_at
        while True:
            connection = self._take_idle()
            reused = connection is not None
            if connection is None:
                try:
                    connection = await self._connect()
                except (OSError, TimeoutError) as exc:
                    name = type(exc).__name__
                    return Reply(began, error=f"cannot connect: {name}", ended_at=time.perf_counter())
            answer = await self._exchange(connection, request, began, keep_events=keep_events)
            if reused and answer.error == "connection lost" and not answer.status:
                continue  # The server had closed the idle connection before it received the request.
            if connection.reusable:
                self._idle.append(connection)
            return answer

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    async def _connect(self) -> Connection:
        target, loop = self.target, asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            _, connection = await loop.create_connection(
                lambda: Connection(self._buffer), target.host, target.port, ssl=self._tls
            )
        return connection

    async def _exchange(self, connection: Connection, request: bytes, began: float, *, keep_events: bool) -> Reply:
        done = connection.send(request, started_at=began, keep_events=keep_events)
        timer = asyncio.get_running_loop().call_later(self._timeout_s, connection.abort, "timeout")
        try:
            return await done
        except asyncio.CancelledError:
            connection.close()
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Drop every idle connection."""
        while self._idle:
            self._idle.pop().close()
