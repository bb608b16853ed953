"""Accepts connections and looks after them: how many there are, which keep still for too long, how all of them end."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

from ashore.api.http.server.connection import Application, Connection
from ashore.serving import Limits

log = logging.getLogger("ashore.http")

ACCEPTED_AT_ONCE: Final = 64
"""Connections taken in one turn of the loop, so that a flood of them does not hold up those that are served."""
READ_BYTES: Final = 262_144
"""Taken from a connection at once."""
PAUSE_S: Final = 0.5
"""After an accept that failed, as it does without a free file descriptor."""


class HttpServer:
    """Runs an ASGI application on a listening socket until `stop`. Belongs to the loop that `start` was called in."""

    def __init__(self, app: Application, sock: socket.socket, limits: Limits) -> None:
        self.app: Final = app
        self.limits: Final = limits
        self.stopping = False
        self.buffer: Final = memoryview(bytearray(READ_BYTES))
        """What the loop reads into, one connection after the other."""
        self._sock = sock
        self._sock.setblocking(False)
        self._connections: set[Connection] = set()
        self._accepting = False
        self._handed: set[asyncio.Task[object]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def start(self) -> None:
        """Begin to accept connections."""
        self._loop = asyncio.get_running_loop()
        self._sweeper = self._loop.create_task(self._sweep(), name="sweep of connections")
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

    def opened(self, connection: Connection) -> None:
        """Count a connection."""
        self._connections.add(connection)
        if len(self._connections) >= self.limits.max_connections:
            self._accept_none()

    def lost(self, connection: Connection) -> None:
        """Forget a connection, and take another where there were too many."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
        if not self.stopping and len(self._connections) < self.limits.max_connections:
            self._accept_more()

    def _accept_more(self) -> None:
        if not self._accepting and not self.stopping:
            self._accepting = True
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept_none(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock.fileno())

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
                self._loop.call_later(PAUSE_S, self._accept_more)
                return
            sock.setblocking(False)
            task: asyncio.Task[object] = self._loop.create_task(self._hand_over(sock))
            self._handed.add(task)
            task.add_done_callback(self._handed.discard)

    async def _hand_over(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: Connection(self), sock)
        except OSError:  # it was gone before we came to it
            sock.close()

    async def _sweep(self) -> None:
        every_s = min(1.0, self.limits.header_read_timeout_s / 4)
        while True:
            await asyncio.sleep(every_s)
            now = self._loop.time()
            for connection in list(self._connections):
                connection.sweep(now)
