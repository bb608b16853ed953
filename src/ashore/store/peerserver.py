"""A store for the other machines of a fleet, read-only: OCI's distribution protocol over mutual TLS.

A client with a certificate of the fleet's authority may read the whole store; others get nothing.

Source: OCI distribution-spec v1.1, pull.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO, Final
from urllib.parse import urlsplit

from ashore.core.identity import Identity
from ashore.store.layout import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE
from ashore.store.shelves import Shelves

MOST_CONNECTIONS: Final = 64
HANDSHAKE_S: Final = 10.0
"""How long a connection may take to show a certificate."""
QUIET_S: Final = 60.0
"""A client that neither asks nor reads for so long is cut off."""
ROOM_S: Final = 0.2
"""How long a new connection waits for room before the idlest one is closed, and then the next."""
PIECE_BYTES: Final = 1 << 20
_ROUTE: Final = re.compile(r"/v2/(?P<name>[a-z0-9._-]+)/(?P<kind>manifests|blobs|referrers)/(?P<which>[\w.:-]+)")
_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = QUIET_S
    server: _Server
    server_version, sys_version = "ashore", ""

    def __init__(self, shelves: Shelves, told: Callable[[str], None], *rest: object) -> None:
        self._shelves = shelves
        self._told = told
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer a pull."""
        with self.server.busy(self.connection):
            self._answer(urlsplit(self.path).path)

    do_HEAD = do_GET

    def _answer(self, path: str) -> None:
        if path == "/v2/":
            self._send(b"{}", "application/json")
            return
        found = _ROUTE.fullmatch(path)
        name, kind, which = (found["name"], found["kind"], found["which"]) if found else ("", "", "")
        content: BinaryIO | bytes | None = None
        if kind == "manifests":
            content = self._shelves.manifest(name, which)
        elif kind == "blobs":
            content = self._shelves.blob(which)
        elif kind == "referrers":
            content = self._shelves.referrers(which)
        if content is None:
            self._send(b'{"errors":[{"code":"NAME_UNKNOWN"}]}', "application/json", status=404)
        elif isinstance(content, bytes):
            types = {"manifests": MANIFEST_MEDIA_TYPE, "referrers": INDEX_MEDIA_TYPE}
            self._send(content, types.get(kind, "application/octet-stream"))
        else:
            with content:
                self._send_file(content)

    def _send(self, data: bytes, kind: str, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send_file(self, file: BinaryIO) -> None:
        size = file.seek(0, 2)
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked and asked[2] and int(asked[2]) < int(asked[1]):
            asked = None  # RFC 9110, 14.1.1: a range that ends before it begins is invalid, and the whole is sent
        begin, end = (int(asked[1]), int(asked[2] or size - 1)) if asked else (0, size - 1)
        if asked and begin >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        end = min(end, size - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - begin + 1))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{end}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        file.seek(begin)
        left = end - begin + 1
        while left and (piece := file.read(min(PIECE_BYTES, left))):
            self.wfile.write(piece)
            left -= len(piece)

    def log_message(self, format: str, *values: object) -> None:
        """Log an answer: the client by its certificate's name, and the request."""
        try:
            shown = self.connection.getpeercert() or {}
        except (OSError, ValueError):
            shown = {}
        names = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
        self._told(f"{', '.join(names) or self.client_address[0]}: {format % values}")


class _Server(ThreadingHTTPServer):
    """Limits the connections. Beyond the limit, the one idle longest is closed, so that silent clients cannot block
    others.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *rest: object, context: ssl.SSLContext) -> None:
        super().__init__(*rest)  # type: ignore[arg-type]
        self._room = threading.Semaphore(MOST_CONNECTIONS)
        self._idle: OrderedDict[socket.socket, None] = OrderedDict()
        self._lock = threading.Lock()
        # Each connection's own thread does the handshake, so that a client without one blocks no one.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        while not self._room.acquire(timeout=ROOM_S):
            self._close_idlest()
        with self._lock:
            self._idle[request] = None
        super().process_request(request, client_address)

    @contextmanager
    def busy(self, request: socket.socket) -> Iterator[None]:
        """Protect a connection from being closed while it is answered."""
        with self._lock:
            self._idle.pop(request, None)
        try:
            yield
        finally:
            with self._lock:
                self._idle[request] = None

    def _close_idlest(self) -> None:
        with self._lock:
            request, _ = self._idle.popitem(last=False) if self._idle else (None, None)
            if request is not None:
                with contextlib.suppress(OSError):  # only the socket: its thread may be in the middle of TLS
                    socket.socket.shutdown(request, socket.SHUT_RDWR)

    def process_request_thread(self, request: ssl.SSLSocket, client_address: object) -> None:  # type: ignore[override]
        try:
            request.settimeout(HANDSHAKE_S)
            request.do_handshake()
        except OSError:
            self.shutdown_request(request)
        else:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._idle.pop(request, None)
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A broken connection, or one without our certificate, ends alone."""


def serve_store(
    shelves: Shelves, *, host: str, port: int, identity: Identity, told: Callable[[str], None]
) -> ThreadingHTTPServer:
    """Return a server that answers once `serve_forever` is called; `shutdown` ends that.

    Raises:
        InvalidSpec: the certificate cannot be used.
        OSError: the address is unavailable.
    """
    context = identity.context(server=True)
    return _Server((host, port), partial(_Handler, shelves, told), context=context)
