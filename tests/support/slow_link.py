"""A link between a client and a server on loopback that is slow, or cut, on request."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class SlowLink:
    """Hands bytes on; what the server sends waits, and while the link is cut nobody gets through."""

    def __init__(self, port: int, delay_s: float) -> None:
        self._port, self.delay_s = port, delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self.cut_after = -1
        """Bytes from the server after which the link cuts itself; -1: never."""
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        with self._lock:
            self._is_cut, broken = True, list(self._open)
            self._open.clear()
            self.cuts += 1
        for one in broken:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def mend(self) -> None:
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._port))
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open |= {client, server}
            threading.Thread(target=self._pump, args=(client, server, 0.0), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, self.delay_s), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, delay_s: float) -> None:
        """Hand bytes on; a pause of the source is followed by the delay, so that each answer has it once."""
        last_s = float("-inf")
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                if delay_s and time.monotonic() - last_s > delay_s / 2:
                    time.sleep(delay_s)
                if delay_s and self.cut_after >= 0:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut()
                        return
                target.sendall(data)
                last_s = time.monotonic()
        for one in (source, target):
            with self._lock:
                self._open.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def slow_link(url: str, *, delay_s: float = 0.001) -> Iterator[SlowLink]:
    """Give a link to the server at `url`, until the block ends."""
    link = SlowLink(urlsplit(url).port or 80, delay_s)
    try:
        yield link
    finally:
        link.close()
