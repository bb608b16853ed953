"""A narrow line to a far centre: bytes arrive later, and no faster than the line carries. Loopback is the rest."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time

PIECE = 4_096


class Link:
    """Forwards every connection to its own port to `to_port`, each way with `delay_s` and `bytes_per_s`."""

    def __init__(self, to_port: int, *, delay_s: float, bytes_per_s: float) -> None:
        self.to_port, self.delay_s, self.bytes_per_s = to_port, delay_s, bytes_per_s
        self.carried_bytes = 0
        self.cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to_port))
                for source, target in ((near, far), (far, near)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                    threading.Thread(target=self._take, args=(source, under_way), daemon=True).start()
                    threading.Thread(target=self._give, args=(target, under_way), daemon=True).start()

    def _take(self, source: socket.socket, under_way: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        free_s = 0.0
        piece = b"-"
        while piece:
            try:
                piece = source.recv(PIECE)
            except OSError:
                piece = b""
            free_s = max(free_s, time.monotonic()) + len(piece) / self.bytes_per_s
            self.carried_bytes += len(piece)
            under_way.put((free_s + self.delay_s, piece))
            time.sleep(max(0.0, free_s - time.monotonic()))

    def _give(self, target: socket.socket, under_way: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        with contextlib.suppress(OSError):  # the other side has gone
            while True:
                due_s, piece = under_way.get()
                time.sleep(max(0.0, due_s - time.monotonic()))
                while self.cut.is_set():
                    time.sleep(0.01)
                if not piece:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(piece)
