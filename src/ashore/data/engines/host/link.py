"""One API worker's connection to the host, never blocking in either direction."""

from __future__ import annotations

import socket
from collections import deque
from typing import Final

from ashore.core.errors import InvalidRequest
from ashore.core.ids import OrderId
from ashore.data.engines.frames import Events, FrameReader, ToHost, ToWorker, decode_to_host, encode
from ashore.kit.decode import UNDECODABLE

MAX_BACKLOG_BYTES: Final = 16 << 20
"""A worker that leaves this much unread (some 300,000 tokens) is cut off: memory stays bounded, the others go on.
Answers to calls do not count: a single one may be longer, and the next is computed when it has been read."""

_READ_BYTES: Final = 256 << 10
_MOST_PIECES: Final = 64
"""Pieces given to one `sendmsg`; far below IOV_MAX."""


class LinkClosed(Exception):
    """The connection is over: closed by the worker, broken, or cut for invalid or unread data."""


class Link:
    """A connected socket with its outgoing queue and the orders that came over it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.orders: set[OrderId] = set()
        self.open = True
        self._reader = FrameReader()
        self._outgoing: deque[memoryview] = deque()
        self._backlog_bytes = self._answer_bytes = 0
        """Not sent yet; of these, at most, in answers to calls."""

    @property
    def has_backlog(self) -> bool:
        return bool(self._outgoing)

    def receive(self) -> list[ToHost]:
        """Return the complete messages received so far, perhaps none.

        Raises:
            LinkClosed: the worker closed the connection, or sent an invalid frame.
        """
        try:
            data = self.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise LinkClosed(error.strerror) from error
        if not data:
            raise LinkClosed("closed by the worker")
        try:
            return [decode_to_host(body) for body in self._reader.feed(data)]
        except (*UNDECODABLE, InvalidRequest) as error:
            raise LinkClosed(f"invalid frame: {error}") from error

    def send(self, message: ToWorker) -> None:
        """Queue `message`; `flush` sends it. Does nothing on a closed link.

        Raises:
            LinkClosed: the worker has left too much unread.
        """
        if not self.open:
            return
        if self._backlog_bytes - self._answer_bytes > MAX_BACKLOG_BYTES:
            raise LinkClosed(f"the worker left {self._backlog_bytes:,} bytes unread")
        frame = encode(message)
        self._outgoing.append(memoryview(frame))
        self._backlog_bytes += len(frame)
        if not isinstance(message, Events):
            self._answer_bytes += len(frame)

    def flush(self) -> None:
        """Send what the kernel accepts now.

        Raises:
            LinkClosed: the connection is broken.
        """
        while self._outgoing:
            pieces = list(self._outgoing) if len(self._outgoing) <= _MOST_PIECES else self._first_pieces()
            try:
                sent = self.sock.sendmsg(pieces)
            except BlockingIOError:
                return
            except OSError as error:
                raise LinkClosed(error.strerror) from error
            self._drop(sent)

    def close(self) -> None:
        """Close the socket. May be called twice."""
        self.open = False
        self._outgoing.clear()
        self._backlog_bytes = self._answer_bytes = 0
        self.sock.close()

    def _first_pieces(self) -> list[memoryview]:
        return [self._outgoing[i] for i in range(_MOST_PIECES)]

    def _drop(self, sent: int) -> None:
        self._backlog_bytes -= sent
        while sent:
            first = self._outgoing[0]
            if len(first) > sent:
                self._outgoing[0] = first[sent:]
                return
            sent -= len(first)
            self._outgoing.popleft()
        if not self._outgoing:
            self._answer_bytes = 0
