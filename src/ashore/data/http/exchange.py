"""One HTTP request and the answer being written to it: the only code that touches ASGI messages."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec

from ashore.core.errors import AshoreError, PayloadTooLarge, RequestTimeout
from ashore.core.ids import RequestId, new_request_id
from ashore.core.wholenumber import whole_number
from ashore.data.path import Arrival, Limits, Started, Urgency
from ashore.data.trace import parent_of
from ashore.data.underway import NO_HOLD, Hold
from ashore.kit.decode import MAX_NAME_CHARS

AsgiMessage = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


class Direct(Protocol):
    """What our server offers under `ashore.direct` of an ASGI scope, beside its messages: most requests and answers
    are one piece, and the pieces of a stream are small and many."""

    def whole_body(self) -> bytes | None:
        """Return the body if all of it has arrived; `receive` then has none. None: use `receive`."""
        ...

    def drop_body(self) -> None:
        """Discard the body from now on; `receive` reports its end."""
        ...

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer in one step; return whether the client keeps up. If not, await `drain`.

        Raises:
            ClientGone: the client is gone.
        """
        ...

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Begin an answer. Its head is sent with its first piece."""
        ...

    def write(self, piece: bytes) -> bool:
        """Send a piece of an answer that has begun; return whether the client keeps up. If not, `drain` comes next.

        Raises:
            ClientGone: the client is gone.
        """
        ...

    async def drain(self) -> None:
        """Wait until the client has read most of what was sent, or is gone."""
        ...

    def on_gone(self, tell: Callable[[], None]) -> None:
        """Call `tell` when the client goes away, from outside of any task."""
        ...


LINGER_S: Final = 2.0
"""After answering with the body unread, how long the rest is read and thrown away, so that the answer arrives."""
LINGER_BYTES: Final = 256 << 20
MOST_TOLD: Final = 16
"""Fields left out of a request that the header of its answer names."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


JSON: Final = (b"content-type", b"application/json")
EVENT_STREAM: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(slots=True)
class Taken:
    """A copy of a response."""

    started: Started
    headers: tuple[tuple[bytes, bytes], ...] = ()
    parts: list[bytes] = field(default_factory=list)
    whole: bool = False
    """Whether it came to its end, and that end was not an error."""


def _admitted() -> None:
    """Admit anybody."""


class ClientGone(Exception):
    """The client closed the connection and reads no answer."""


class Exchange:
    """A request with its response. Used by one task."""

    __slots__ = (
        "_body",
        "_direct",
        "_finished",
        "_late",
        "_receive",
        "_send",
        "_taken",
        "_unsent",
        "admit_again",
        "arguments",
        "error_code",
        "extra_headers",
        "gone",
        "headers",
        "hold",
        "ignored",
        "job_id",
        "method",
        "model",
        "origin",
        "path",
        "principal_id",
        "request_id",
        "route",
        "scope",
        "started_at",
        "status",
        "tokens",
        "trace",
        "traceparent",
        "unread",
        "urgency",
        "writing_since",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = scope.get("ashore.headers") or dict(scope["headers"])
        """The last one of each name."""
        given = self.headers.get(b"x-request-id", b"")
        self.request_id = RequestId(given.decode()) if _REQUEST_ID.fullmatch(given) else new_request_id()
        self.extra_headers: list[tuple[bytes, bytes]] = []
        """Sent with whatever answer follows."""
        self.trace, self.traceparent = "", ""
        """Id of the caller's trace, and its header."""
        if (traceparent := self.headers.get(b"traceparent")) is not None:
            self.trace, self.traceparent = parent_of(traceparent.decode("latin-1"))
            if self.trace:
                self.extra_headers.append((b"traceparent", traceparent))
        self.started_at = time.perf_counter()
        self.status = 0
        """Status of the response, once it has begun; 0 before."""
        self.gone = False
        self.route = "unknown"
        self.principal_id = "-"
        self.hold: Hold = NO_HOLD
        """Where the bytes of the body are counted, from when it is known whose they are until `close`."""
        self.origin = ""
        """Address of the client, once the application has found it out."""
        self.admit_again: Callable[[], None] = _admitted
        """Called when a body has come that was waited for; raises if its caller may not send it any more."""
        self.arguments: tuple[str, ...] = ()
        """Value of each `{name}` in the path of the route."""
        self.model = "-"
        self.urgency: Urgency = "interactive"
        """Anything else only for a process of ours, which runs a job."""
        self.ignored: tuple[str, ...] = ()
        """Paths of body fields that have no effect here, or are unknown."""
        self.job_id = ""
        """The job that this request is, where it is one."""
        self.error_code = ""
        self.unread = b"transfer-encoding" in self.headers or self.headers.get(b"content-length", b"0") != b"0"
        """Whether some of the body may still be on its way."""
        self.tokens = 0
        self.writing_since = 0.0
        """When the write in progress began, 0 when none is: a sweep cuts off clients that read nothing."""
        self._receive = receive
        self._send = send
        self._direct: Direct = scope["ashore.direct"]
        self._finished = False
        self._unsent: list[bytes] = []
        """Pieces of a stream that wait for the client to read."""
        self._late: asyncio.Task[None] | None = None
        """Sends them."""
        self._body: bytes | None = None
        self._taken: Taken | None = None

    @property
    def argument(self) -> str:
        """Value of the first `{name}` in the path of the route; empty without one."""
        return self.arguments[0] if self.arguments else ""

    @property
    def client_host(self) -> str:
        """Address of the peer; the path of the socket, or empty, on a unix socket."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def arrival(self) -> Arrival:
        """Return the origin of the request, for the audit log."""
        origin = f"job/{self.job_id}" if self.job_id else self.origin
        return Arrival(origin, self.route, self.ignored, self.trace, self.traceparent)

    async def body(self, limits: Limits) -> bytes:
        """Return the whole body; read once, and the same from then on.

        Raises:
            PayloadTooLarge: it is longer than the limit; an announced length is refused before a byte is read.
            Overloaded: the bodies that this worker holds leave no room for its announced or received length.
            RequestTimeout: it did not come in time.
            ClientGone: the connection closed before its end.
        """
        body = self.body_at_hand(limits)
        if body is None:
            body = await self._read_body(limits)
            self.admit_again()
            self._body = body
        return body

    def body_at_hand(self, limits: Limits) -> bytes | None:
        """Return the whole body if it has already arrived; None: await `body`.

        Raises:
            PayloadTooLarge, Overloaded: as `body`.
        """
        if self._body is None:
            whole = self._direct.whole_body()
            if whole is None:
                return None
            self.unread = False
            if len(whole) > limits.max_body_bytes:
                raise too_large(len(whole), limits)
            self.hold.grow(len(whole))
            self._body = whole
        return self._body

    async def _read_body(self, limits: Limits) -> bytes:
        length_said = self.headers.get(b"content-length", b"")
        announced = whole_number(length_said)
        if announced is None and length_said.isdigit():  # more digits than a number of bytes has
            raise too_large(limits.max_body_bytes + 1, limits)
        if announced is not None and announced > limits.max_body_bytes:
            raise too_large(announced, limits)
        self.hold.check(announced or 0)  # announced bytes take no room before they come
        parts: list[bytes] = []
        length = 0
        try:
            async with asyncio.timeout(limits.body_read_timeout_s):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        self.gone = True
                        raise ClientGone
                    part: bytes = message.get("body", b"")
                    length += len(part)
                    if length > limits.max_body_bytes:
                        raise too_large(length, limits)
                    self.hold.grow(len(part))
                    parts.append(part)
                    if not message.get("more_body", False):
                        self.unread = False
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError as fault:
            raise RequestTimeout(
                f"the body was not complete after {limits.body_read_timeout_s:g} s; {length} bytes had arrived",
                hint="send the whole body without pausing",
            ) from fault

    async def chunks(self, *, most_bytes: int, silence_s: float) -> AsyncIterator[bytes]:
        """Yield the body as it comes, for bodies too long to hold.

        Raises:
            PayloadTooLarge: it is longer than `most_bytes`.
            RequestTimeout: nothing came for `silence_s`.
            ClientGone: the connection closed before its end.
        """
        length = 0
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    message = await self._receive()
            except TimeoutError as fault:
                raise RequestTimeout(
                    f"the upload stalled: nothing arrived for {silence_s:g} s after {length} bytes"
                ) from fault
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGone
            part: bytes = message.get("body", b"")
            length += len(part)
            if length > most_bytes:
                raise PayloadTooLarge(f"the upload has {length:,} bytes or more; the limit is {most_bytes:,}")
            self.unread = bool(message.get("more_body", False))
            if part:
                yield part
            if not self.unread:
                self.admit_again()
                return

    def query(self) -> dict[str, str]:
        """Return the query parameters, the last one of each name."""
        return dict(parse_qsl(self.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))

    def watch(self) -> None:
        """Cancel the current task when the client goes away; `gone` reports that as the reason."""
        task = asyncio.current_task()
        assert task is not None
        self._direct.on_gone(partial(self._cut_off, task))

    def take_down(self, started: Started) -> None:
        """Copy the response from now on; it repeats the cached answer in `started`."""
        self._taken = Taken(started)

    @property
    def taken(self) -> Taken | None:
        """The response so far, if `take_down` was called before it began."""
        return self._taken

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response.

        Raises:
            Overloaded: it is long, and there is no room for it until the client has read it. Nothing was sent.
        """
        self.hold.cover(len(body))
        self.status = status
        if self.ignored:
            headers = self._told(headers)
        if self._taken is not None:
            self._taken.headers, self._taken.whole = tuple(headers), True
            self._taken.parts.append(body)
        head = [
            *headers,
            *self.extra_headers,
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.request_id.encode()),
        ]
        self._finished = True
        if self._direct.answer(status, head, body):
            return
        self.writing_since = time.perf_counter()
        await self._direct.drain()
        self.writing_since = 0.0

    async def respond_json(self, answer: msgspec.Struct) -> None:
        """Send a whole response in JSON, with status 200."""
        await self.respond(200, [JSON], msgspec.json.encode(answer))

    def _told(self, headers: Headers) -> Headers:
        """Return the headers of an answer, with the fields dropped from its request."""
        shown = [path for path in self.ignored if path.isascii() and path.isprintable() and len(path) <= MAX_NAME_CHARS]
        more = len(self.ignored) - len(shown[:MOST_TOLD])
        names = [*shown[:MOST_TOLD], *([f"and {more} more"] if more else [])]
        return [*headers, (b"x-ashore-ignored", ", ".join(names).encode())]

    async def start_download(self, headers: Headers) -> None:
        """Send the head of an answer whose body follows in pieces."""
        self.status = 200
        head = [*headers, *self.extra_headers, (b"x-request-id", self.request_id.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": head})

    async def pass_head(self, status: int, headers: Headers) -> None:
        """Send the head of an answer that another process gave, as it is. Its body follows in pieces."""
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    def start_stream(self, headers: Headers) -> None:
        """Begin a stream, whose head is sent with its first piece."""
        self.status = 200
        headers = self._told(headers)
        if self._taken is not None:
            self._taken.headers = tuple(headers)
        self._direct.start(200, [*headers, *self.extra_headers, (b"x-request-id", self.request_id.encode())])

    def put(self, chunk: bytes) -> None:
        """Send a piece of the stream, from anywhere in the loop. It is buffered while the client reads more slowly,
        and sent when the client catches up."""
        if self._taken is not None:
            self._taken.parts.append(chunk)
        if self._late:
            self._unsent.append(chunk)
            return
        try:
            keeps_up = self._direct.write(chunk)
        except ClientGone:  # the task of this request ends for that
            return
        if not keeps_up:
            self._late = asyncio.get_running_loop().create_task(self._send_late())

    async def _send_late(self) -> None:
        """Send buffered pieces until the client keeps up."""
        try:
            while True:
                self.writing_since = time.perf_counter()
                await self._direct.drain()
                if not self._unsent:
                    return
                chunk = b"".join(self._unsent)
                self._unsent.clear()
                if self._direct.write(chunk):
                    return
        except ClientGone:  # the task of this request ends for that
            self._unsent.clear()
        finally:
            self.writing_since, self._late = 0.0, None

    async def caught_up(self) -> None:
        """Wait until the client has read most of what was `put`."""
        if self._late is not None:
            await self._late

    async def write(self, chunk: bytes) -> None:
        """Send a piece of a download; waits while the client reads more slowly."""
        self.writing_since = time.perf_counter()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self.writing_since = 0.0

    async def end_stream(self, chunk: bytes = b"") -> None:
        """Send the last piece of a stream or download."""
        if self._late is not None:
            await self._late
        self._finished = True
        self.writing_since = time.perf_counter()
        if self._taken is not None:
            self._taken.parts.append(chunk)
            self._taken.whole = not self.error_code
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})
        self.writing_since = 0.0

    async def linger(self) -> None:
        """Read and drop what the client still sends, for a moment, so that it can read the answer.

        Closing a connection with unread bytes resets it, and the answer is lost; an edge would then take the worker for
        dead, so that any client could remove it from the load balancing.
        """
        if not self.unread:
            return
        length = 0
        self._direct.drop_body()
        try:
            async with asyncio.timeout(LINGER_S):
                while self.unread and length < LINGER_BYTES:
                    message = await self._receive()
                    length += len(message.get("body", b""))
                    self.unread = message["type"] != "http.disconnect" and bool(message.get("more_body", False))
                    del message  # release it while the next one is awaited
        except (TimeoutError, AshoreError):  # further bytes are not a body, and end with the connection
            return

    def close(self) -> None:
        """Stop watching, and release the body. May be called twice."""
        self._finished = True
        self.hold.release()
        if self._late is not None:
            self._late.cancel()

    def _cut_off(self, task: asyncio.Task[Any]) -> None:
        if not self._finished:
            self.gone = True
            task.cancel()


def too_large(seen: int, limits: Limits) -> PayloadTooLarge:
    """Return the refusal of a body of `seen` bytes or more."""
    return PayloadTooLarge(
        f"the body has {seen:,} bytes or more; the limit is {limits.max_body_bytes:,}",
        hint="send a shorter request; where Envoy is in front, [edge] max_body_bytes raises the limit",
    )
