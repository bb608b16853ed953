"""Requests to one server over kept connections, each to an address that was checked: HTTP/1.1 by llhttp (`httptools`).

For many small requests: httpx takes about a millisecond of a processor for one, this a tenth of it. No proxy, no
redirects, no cookies, no compression. Nothing is sent twice: a request whose connection breaks may have been carried
out.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

from ashore.kit.egress import Allowed, Resolve, Target, check_addresses, check_url

if TYPE_CHECKING:
    import httptools

KEPT_S: Final = 5.0
"""How long a connection without a request is kept; servers close theirs at about that time."""
HEAD_BYTES: Final = 64 << 10
"""Longest head of an answer."""
QUEUED_BYTES: Final = 256 << 10
"""What has come of an answer and was not taken yet; beyond it the connection is not read."""


class Line(asyncio.Protocol):
    """One connection, with one answer at a time."""

    def __init__(self) -> None:
        self.status, self.headers = 0, dict[str, str]()
        """Of the answer; names in lower case."""
        self.idle_since_s = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        """None: nothing is asked, and what comes now is no answer."""
        self._pieces: deque[bytes] = deque()
        self._num_queued = self._num_bytes = self._most = 0
        self._ended, self._may_keep, self._fault = False, False, ""
        self._changed = asyncio.Event()

    @property
    def is_free(self) -> bool:
        """Whether it may carry the next request; not after an early answer, behind which the rest would be one."""
        sent = self._transport is not None and not self._transport.get_write_buffer_size()
        return sent and self._ended and self._may_keep and not self._fault and not self._pieces

    async def ask(self, request: bytes, most_bytes: int) -> None:
        """Send a request, and wait for the head of its answer. `most_bytes`: longest answer, with all its framing.

        Raises:
            ConnectionError: there is none.
        """
        import httptools  # not with the room: commands import that, too

        assert self._transport is not None, "it is connected"
        self.status, self.headers = 0, {}
        self._num_bytes, self._most, self._ended = 0, most_bytes, False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        while not self.status:
            await self._change()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            ConnectionError: it breaks off.
        """
        while self._pieces or not self._ended:
            if not self._pieces:
                await self._change()
                continue
            piece = self._pieces.popleft()
            self._num_queued -= len(piece)
            if self._transport is not None and self._num_queued <= QUEUED_BYTES // 2:
                self._transport.resume_reading()
            yield piece

    async def _change(self) -> None:
        self._changed.clear()
        if self._fault:
            raise ConnectionError(self._fault)
        await self._changed.wait()

    def drop(self, why: str) -> None:
        """Close it at once; who waits for its answer reads why. May be called twice."""
        self._fault = self._fault or why
        self._changed.set()
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        import httptools

        self._num_bytes += len(data)
        if self._parser is None or self._ended:
            self.drop("it sent what was not asked for")
        elif self._num_bytes > self._most:
            self.drop("its answer is too long")
        else:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self.drop("it does not speak HTTP/1.1")
            if not self.status and self._num_bytes > HEAD_BYTES:
                self.drop("the head of its answer is too long")
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._may_keep = False
        has_end = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self.status and not has_end and exc is None and not self._fault:
            self._ended = True  # its end is that of the connection
        if not self._ended:
            self._fault = self._fault or "the connection broke off"
        self._changed.set()

    # --- httptools

    def on_message_begin(self) -> None:
        if self._ended:
            self.drop("it sent what was not asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # of a trailer, or behind the answer
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self._ended:
            return
        if status < 200:
            self.headers.clear()  # more is to come
        else:
            self.status = status

    def on_body(self, body: bytes) -> None:
        if self._ended:
            return
        self._pieces.append(body)
        self._num_queued += len(body)
        if self._num_queued > QUEUED_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status and self._parser is not None:
            self._ended, self._may_keep = True, self._parser.should_keep_alive()


class Lines:
    """The connections to servers whose addresses are checked. Used on one event loop."""

    def __init__(self, allow: Sequence[Allowed], most_kept: int) -> None:
        """Create it. `most_kept`: connections without a request that are kept."""
        self._allow, self._most_kept = allow, most_kept
        self._free: deque[tuple[tuple[str, str, str], Line]] = deque()
        self._busy: set[Line] = set()
        self._trust: ssl.SSLContext | None = None

    @asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], content: bytes, *, resolver: Resolve, most_bytes: int
    ) -> AsyncIterator[Line]:
        """Post something, and yield the connection once the head of the answer has come. Cancelling closes it.

        Raises:
            PermissionDenied: the host, or its address, may not be called. OSError: there is no answer.
        """
        target = check_url(url, self._allow)
        found = [target.host] if target.literal else await resolver(target.host, target.port)
        address = check_addresses(target, found)
        key = target.scheme, target.authority, address
        line = self._kept(key) or await self._connect(target, address)
        self._busy.add(line)
        try:
            await line.ask(_request(target, headers, content), most_bytes)
            yield line
        finally:
            self._busy.discard(line)
            line.idle_since_s = time.monotonic()
            if line.is_free and len(self._free) < self._most_kept:
                self._free.append((key, line))
            else:
                line.drop("its answer was not taken")

    def close(self) -> None:
        """Close every connection. Answers that are waited for break off."""
        for line in (*self._busy, *(one for _, one in self._free)):
            line.drop("it was closed by a change of the configuration")
        self._free.clear()

    def _kept(self, key: tuple[str, str, str]) -> Line | None:
        """Return a free connection, the one used last; drop those that are old or closed."""
        since_s = time.monotonic() - KEPT_S
        fresh = [(one, line) for one, line in self._free if line.is_free and line.idle_since_s > since_s]
        for _, line in self._free:
            if not (line.is_free and line.idle_since_s > since_s):
                line.drop("nobody needed it")
        at = next((at for at in reversed(range(len(fresh))) if fresh[at][0] == key), None)
        found = None if at is None else fresh.pop(at)[1]
        self._free = deque(fresh)
        return found

    async def _connect(self, target: Target, address: str) -> Line:
        if target.scheme == "https" and self._trust is None:
            from ashore.kit.identity import public_trust

            self._trust = public_trust()
        trust = self._trust if target.scheme == "https" else None
        name = target.host if trust is not None else None
        _, line = await asyncio.get_running_loop().create_connection(
            Line, address, target.port, ssl=trust, server_hostname=name
        )
        return line


def _request(target: Target, headers: Mapping[str, str], content: bytes) -> bytes:
    """Return the bytes of a request.

    Raises:
        ConnectionError: a header would end the head.
    """
    whole = {
        "host": target.authority, "accept-encoding": "identity", "user-agent": "ashore",
        "content-length": str(len(content)), **headers,
    }  # fmt: skip
    lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in whole.items())]
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise ConnectionError("a header has a line break")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + content
