"""One request of a connection and its answer, as an ASGI application sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, Protocol

from ashore.core.errors import AshoreError
from ashore.data.http.exchange import AsgiMessage, ClientGone, Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

_STATUS_LINES: Final = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS: Final = (204, 304)


class Line(Protocol):
    """The connection, as seen by the answer to one of its requests."""

    @property
    def transport(self) -> asyncio.Transport: ...

    @property
    def is_clogged(self) -> bool:
        """Whether the client reads more slowly than we write."""
        ...

    @property
    def closes_next(self) -> bool:
        """Whether no further request is accepted."""
        ...

    async def drain(self) -> None:
        """Wait until the client has read enough."""
        ...

    def read_more(self) -> None:
        """Resume reading if it was paused."""
        ...


class Cycle:
    """One request and its answer, from the request's head to the answer's last byte."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_drops",
        "_expects",
        "_fault",
        "_gone",
        "_head",
        "_is_head",
        "_left",
        "_parts",
        "_runs_to_close",
        "_tell_gone",
        "_told_end",
        "_wakeup",
        "_whole",
        "ends_connection",
        "head_bytes",
        "is_answered",
        "keeps",
        "scope",
        "task",
        "unread",
    )

    def __init__(self, connection: Line, scope: Scope, *, keeps: bool, expects: bool, head_bytes: int = 0) -> None:
        self.scope = scope
        self.head_bytes: Final = head_bytes
        scope["ashore.direct"] = self
        self.keeps: Final = keeps
        """Whether the client wants to go on with this connection."""
        self.task: asyncio.Task[None] | None = None
        self.is_answered = False
        self.ends_connection = False
        """Whether the answer closes the connection, by its header or by its form."""
        self.unread = 0
        """Bytes of the body that wait for the application."""
        self._connection = connection
        self._is_head = scope["method"] == "HEAD"
        self._expects = expects
        self._parts: list[bytes] = []
        self._drops = False
        self._whole = False
        self._told_end = False
        self._gone = False
        self._fault: AshoreError | None = None
        """Why no more of the body comes."""
        self._tell_gone: Callable[[], None] | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._head: list[bytes] | None = None
        """Head of the answer, until its first piece is written."""
        self._chunked = False
        self._runs_to_close = False
        """Whether nothing but the end of the connection ends the answer: it goes to a client of HTTP/1.0."""
        self._left: int | None = None
        """Bytes of the answer that are still owed, where it announced how many."""

    @property
    def is_read(self) -> bool:
        """Whether the whole body has come."""
        return self._whole

    def let_go(self) -> None:
        """Drop the reference to the ended application: a reference cycle would keep both until a collection."""
        self.scope.pop("ashore.direct", None)
        self.task = self._tell_gone = None

    # Called by the connection

    def feed(self, part: bytes) -> None:
        """Add a piece of the body."""
        if self._drops:
            return
        self.unread += len(part)
        self._parts.append(part)
        if self._wakeup is not None:
            self._wake()

    def feed_end(self) -> None:
        """Mark the body as whole."""
        self._whole = True
        if self._wakeup is not None:
            self._wake()

    def break_off(self, fault: AshoreError) -> None:
        """Mark the rest of the body as invalid HTTP: reading it raises `fault`."""
        self._fault = fault
        self._wake()

    def say_wait(self) -> bool:
        """Send an interim response before the head to a client that may be gone; return whether a reset can then
        show that it is."""
        if self.scope["http_version"] != "1.1":
            return False
        if self._head is None and not self._is_begun:
            self._connection.transport.write(_CONTINUE)
        return True

    def disconnect(self) -> None:
        """Mark the client as gone."""
        self._gone = True
        self._wake()
        if self._tell_gone is not None:
            self._tell_gone()

    # Called by the application

    async def receive(self) -> AsgiMessage:
        """Return the next piece of the body; after the last one, wait until the client goes or has its answer.

        Raises:
            InvalidRequest, HeadersTooLarge: the received body is invalid.
        """
        while True:
            if self._gone or (self.is_answered and self._whole):
                return {"type": "http.disconnect"}
            if self._fault is not None:
                raise self._fault
            if self._parts or (self._whole and not self._told_end):
                return self._next_part()
            if self._expects and self._head is None and not self.is_answered:
                self._expects = False
                self._connection.transport.write(_CONTINUE)
            self._wakeup = asyncio.get_running_loop().create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None

    def whole_body(self) -> bytes | None:
        """Return the body if all of it is here and none was taken; `receive` then gives none."""
        if not self._whole or self._told_end:
            return None
        self._told_end, self.unread = True, 0
        parts, self._parts = self._parts, []
        self._connection.read_more()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def drop_body(self) -> None:
        """Discard the body, waiting and future bytes; `receive` reports its end.

        A refused client may continue to send, on hundreds of connections: their bytes would add up.
        """
        self._drops, self.unread = True, 0
        self._parts.clear()
        self._connection.read_more()

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write a whole answer, as the two messages of it to `send` would; return whether the client keeps up. If not,
        await `drain`.

        Raises:
            ClientGone: the client is gone.
        """
        self.start(status, headers)
        if self._gone:
            raise ClientGone
        self._write(body, last=True)
        return not self._connection.is_clogged

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Begin an answer, whose head is sent with its first piece."""
        parts: list[bytes] = []
        for name, value in headers:
            if name == b"content-length":
                self._left = int(value)
            parts += (name, b": ", value, b"\r\n")
        text = b"".join(parts)
        if not text.count(b"\n") == text.count(b"\r") == len(headers):
            name = next(name for name, value in headers if {10, 13} & {*name, *value})
            raise ValueError(f"a line break in the header {name.decode('latin-1')!r} of an answer")
        if status in _BODILESS:
            self._left = 0
        self._head = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status, text]

    def write(self, piece: bytes) -> bool:
        """Write a piece of an answer that has begun; return whether the client keeps up. If not, `drain` comes next.

        Raises:
            ClientGone: the client is gone.
        """
        if self._gone:
            raise ClientGone
        if self._chunked and piece and not (self._is_head or self.is_answered):  # what a token is
            self._connection.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        else:
            self._write(piece, last=False)
        return not self._connection.is_clogged

    async def drain(self) -> None:
        """Wait until the client has read most of what was written, or is gone."""
        await self._connection.drain()

    def on_gone(self, tell: Callable[[], None]) -> None:
        """Call `tell` when the client goes away, from outside of any task."""
        self._tell_gone = tell
        if self._gone:
            asyncio.get_running_loop().call_soon(tell)

    async def send(self, message: AsgiMessage) -> None:
        """Write a part of the answer; waits while the client reads more slowly.

        Raises:
            ClientGone: the client is gone.
        """
        if message["type"] == "http.response.start":
            self.start(message["status"], message.get("headers", ()))
            return
        if self._gone:
            raise ClientGone
        self._write(message.get("body", b""), last=not message.get("more_body", False))
        if self._connection.is_clogged:
            await self._connection.drain()

    def _next_part(self) -> AsgiMessage:
        parts, self._parts = self._parts, []
        self.unread = 0
        self._told_end = self._whole
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        message = {"type": "http.request", "body": body, "more_body": not self._whole}
        self._connection.read_more()  # which may feed the next part
        return message

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def _write(self, body: bytes, *, last: bool) -> None:
        if self.is_answered or (self._head is None and not self._is_begun):
            raise RuntimeError("a piece of an answer before its head, or after its end")
        out = [] if self._head is None else self._begun(self._head, body, last=last)
        if self._left is not None and not self._is_head:
            self._left -= len(body)
            if self._left < 0 or (last and self._left):
                raise RuntimeError(f"the answer has {-self._left} bytes more than it announced")
        if body and not self._is_head:
            out += (b"%x\r\n" % len(body), body, b"\r\n") if self._chunked else (body,)
        if last:
            if self._chunked and not self._is_head:
                out.append(b"0\r\n\r\n")
            self.is_answered = True
            if self._wakeup is not None:
                self._wake()
        if out:
            self._connection.transport.write(out[0] if len(out) == 1 else b"".join(out))

    @property
    def _is_begun(self) -> bool:
        return self._left is not None or self._chunked or self._runs_to_close

    def _begun(self, head: list[bytes], body: bytes, *, last: bool) -> list[bytes]:
        """Return the head with the framing and connection headers that follow from length and keep-alive."""
        self._head = None
        if self._left is None and last:
            self._left = len(body)
            head.append(b"content-length: %d\r\n" % len(body))
        elif self._left is None and self.scope["http_version"] == "1.1":
            self._chunked = True
            head.append(b"transfer-encoding: chunked\r\n")
        elif self._left is None:
            self._runs_to_close = True
        waits_for_body = self._expects and not self._whole
        self.ends_connection = not self.keeps or self._runs_to_close or self._connection.closes_next or waits_for_body
        if self.ends_connection:
            head.append(b"connection: close\r\n")
        elif self.scope["http_version"] == "1.0":
            head.append(b"connection: keep-alive\r\n")
        head.append(b"\r\n")
        return head
