"""One line of JSON per request on stderr, without text of any prompt or answer. Lines are written in batches."""

from __future__ import annotations

import asyncio
import os
import time

import msgspec

from ashore.data.http.exchange import Exchange

FLUSH_S = 0.2
MOST_LINES = 10_000
"""Lines held between two writes; more are dropped and counted, so that a blocked stderr cannot eat the memory."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The log entry of one request."""

    t: float
    """Seconds since the epoch."""
    id: str
    by: str
    method: str
    route: str
    model: str
    status: int
    ms: float
    tokens: int
    trace: str = ""
    error: str = ""


class AccessLog:
    """Collects lines and writes them a few times a second."""

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[int] | None = None
        self._encode = msgspec.json.Encoder().encode

    def add(self, exchange: Exchange, seconds: float) -> None:
        """Add the entry of an ended request."""
        if len(self._lines) >= MOST_LINES:
            self._dropped += 1
            return
        line = Line(
            t=round(time.time(), 3),
            id=exchange.request_id,
            by=exchange.principal_id,
            method=exchange.method,
            route=exchange.route,
            model=exchange.model,
            status=499 if exchange.gone else exchange.status,
            ms=round(seconds * 1e3, 2),
            tokens=exchange.tokens,
            trace=exchange.trace,
            error=exchange.error_code,
        )
        self._lines.append(self._encode(line))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write pending lines on a thread. During a write, new lines wait for the next one."""
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
            return
        data = self._take()
        if data:
            self._writing = asyncio.get_running_loop().run_in_executor(None, os.write, self._descriptor, data)

    def close(self) -> None:
        """Write the remaining lines before the process ends."""
        if self._timer is not None:
            self._timer.cancel()
        data = self._take()
        if data:
            os.write(self._descriptor, data)

    def _take(self) -> bytes:
        if self._dropped:
            self._lines.append(b'{"dropped":%d}' % self._dropped)
            self._dropped = 0
        lines, self._lines = self._lines, []
        return b"\n".join(lines) + b"\n" if lines else b""
