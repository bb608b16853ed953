"""A proxy that offers a server under a path of its own, as portals do: `/ai/house/console` is `/console`."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PREFIX = "/ai/house"


@contextmanager
def path_proxy(port: int, *, edge: Path | None = None) -> Iterator[str]:
    """Yield the address under which a server on `port` of this machine is offered.

    Args:
        port: Of the server.
        edge: Folder of its edge, whose certificate and key the proxy has, too: both sides speak TLS. None: neither.
    """
    inside: ssl.SSLContext | None = None
    if edge is not None:
        inside = ssl.create_default_context(cafile=str(edge / "ca.pem"))
        inside.check_hostname = False

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            if not self.path.startswith(PREFIX):
                self.send_error(404)
                return
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length) if length else None
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            upstream = (
                http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                if inside is None
                else http.client.HTTPSConnection("localhost", port, timeout=60, context=inside)
            )
            upstream.request(
                self.command, self.path.removeprefix(PREFIX), body, {**headers, "x-forwarded-prefix": PREFIX}
            )
            with (
                contextlib.closing(upstream),
                contextlib.suppress(ConnectionError),
            ):  # a browser goes on to another page
                self.pass_on(upstream.getresponse())

        def pass_on(self, answer: http.client.HTTPResponse) -> None:
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if edge is not None:
        outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = next(one for one in sorted(edge.glob("*.key")) if one.name != "ca.key")
        outside.load_cert_chain(edge / "edge.pem", key)
        server.socket = outside.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        scheme = "http" if edge is None else "https"
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}{PREFIX}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
