"""Accepts connections and manages them: limits their number, closes idle ones, drains them at shutdown."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from typing import Final

from ashore.data.http.server.connection import Connection
from ashore.data.http.server.cycle import Application
from ashore.data.path import Limits

log = logging.getLogger("ashore.http")

ACCEPTED_AT_ONCE: Final = 64
"""Connections taken in one turn of the loop, so that a flood of them does not hold up those that are served."""
READ_BYTES: Final = 65_536
"""Taken from a connection at once."""
HELD_BYTES: Final = 32 << 20
"""Of requests that came and that no application has taken, on all connections together, above which each may hold less:
heads that are not whole, what was sent ahead, bodies of slow applications."""
PAUSE_S: Final = 0.5
"""After an accept that failed, as it does without a free file descriptor."""


class HttpServer:
    """Runs an ASGI application on a listening socket until `stop`. Belongs to the loop that `start` was called in."""

    def __init__(
        self, app: Application, sock: socket.socket, limits: Limits, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.app: Final = app
        self.limits: Final = limits
        self.stopping = False
        self.buffer: Final = memoryview(bytearray(READ_BYTES))
        """Read buffer of the loop, shared by all connections in turn."""
        self._sock = sock
        self._sock.setblocking(False)
        self._tls = tls
        self.held = 0
        """Bytes of requests that no application has taken."""
        self.is_short = False
        """Whether all connections together hold more than they should."""
        self._connections: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._accepting = False
        self._handed: set[asyncio.Task[object]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    def start(self) -> None:
        """Start accepting connections."""
        self.loop = asyncio.get_running_loop()
        self._sweeper = self.loop.create_task(self._sweep(), name="sweep of connections")
        self._accept_more()

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Stop accepting, and give open connections a moment to end."""
        if self._sweeper is None:
            return
        self.stopping = True
        self._accept_none()
        self._sock.close()
        for connection in list(self._connections):
            connection.close_when_idle()
        if self._connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), timeout_s)
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()
        self._sweeper.cancel()

    def hold(self, num_bytes: int) -> None:
        """Add a change in the bytes that a connection holds."""
        self.held += num_bytes
        self.is_short = self.held > HELD_BYTES

    def opened(self, connection: Connection) -> bool:
        """Count a connection; return whether its address may have one more."""
        self._connections.add(connection)
        if len(self._connections) >= self.limits.max_connections:
            self._accept_none()
        if connection.client is None:  # a unix socket, which only the owner of the home can reach
            return True
        host = connection.client[0]
        self._by_address[host] += 1
        most = self.limits.connections_per_address
        return not most or self._by_address[host] <= most

    def lost(self, connection: Connection) -> None:
        """Remove a closed connection, and accept another if the limit was reached."""
        self._connections.discard(connection)
        if connection.client is not None:
            host = connection.client[0]
            self._by_address[host] -= 1
            if not self._by_address[host]:
                del self._by_address[host]
        if not self._connections:
            self._empty.set()
        if not self.stopping and len(self._connections) < self.limits.max_connections:
            self._accept_more()

    def _accept_more(self) -> None:
        if not self._accepting and not self.stopping:
            self._accepting = True
            self.loop.add_reader(self._sock.fileno(), self._accept)

    def _accept_none(self) -> None:
        if self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._sock.fileno())

    def _accept(self) -> None:
        room = self.limits.max_connections - len(self._connections) - len(self._handed)
        for _ in range(min(ACCEPTED_AT_ONCE, max(room, 1))):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as fault:
                log.warning("cannot accept a connection: %s", fault.strerror)
                self._accept_none()
                self.loop.call_later(PAUSE_S, self._accept_more)
                return
            sock.setblocking(False)
            task: asyncio.Task[object] = self.loop.create_task(self._hand_over(sock))
            self._handed.add(task)
            task.add_done_callback(self._handed.discard)

    async def _hand_over(self, sock: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), sock, ssl=self._tls)
        except OSError:  # it was gone before we came to it, or showed no certificate
            sock.close()

    async def _sweep(self) -> None:
        every_s = min(1.0, self.limits.header_read_timeout_s / 4)
        while True:
            await asyncio.sleep(every_s)
            now = self.loop.time()
            for connection in list(self._connections):
                connection.sweep(now)
