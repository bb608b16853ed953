"""A key service that speaks as Vault's transit engine does, on a port of this machine."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "s.a-token-of-the-tests"


@dataclass
class Transit:
    """The service's state."""

    url: str = ""
    keys: dict[str, list[bytes]] = field(default_factory=dict)
    """Versions of each key, by name."""
    asked: list[str] = field(default_factory=list)
    fails_with: int = 0
    """Status that every call gets; 0: none."""
    pours: bytes = b""
    """What is sent again and again in place of an answer, for as long as somebody reads; empty: nothing is."""

    def answer(self, path: str, body: dict[str, str], token: str) -> tuple[int, dict[str, object]]:
        self.asked.append(path)
        if self.fails_with:
            return self.fails_with, {"errors": ["told to fail"]}
        if token != TOKEN:
            return 403, {"errors": ["permission denied"]}
        verb, _, name = path.removeprefix("/v1/transit/").partition("/")
        if verb == "keys":
            self.keys[name.removesuffix("/rotate")].append(os.urandom(32))
            return 200, {"data": {}}
        if name not in self.keys:
            return 404, {"errors": []}
        bound = base64.b64decode(body.get("associated_data", ""))
        if verb == "encrypt":
            version, nonce = len(self.keys[name]), os.urandom(12)
            data = nonce + AESGCM(self.keys[name][-1]).encrypt(nonce, base64.b64decode(body["plaintext"]), bound)
            return 200, {"data": {"ciphertext": f"vault:v{version}:{base64.b64encode(data).decode()}"}}
        _, version_text, text = body["ciphertext"].split(":")
        data = base64.b64decode(text)
        try:
            key = self.keys[name][int(version_text[1:]) - 1]
            plain = AESGCM(key).decrypt(data[:12], data[12:], bound)
        except (InvalidTag, IndexError):
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": base64.b64encode(plain).decode()}}


@contextmanager
def running_transit(*names: str) -> Iterator[Transit]:
    """Run the service with one version of each named key."""
    transit = Transit(keys={name: [os.urandom(32)] for name in names})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
            status, document = transit.answer(self.path, body, self.headers.get("X-Vault-Token", ""))
            data = json.dumps(document).encode()
            self.send_response(status)
            if transit.pours:
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(transit.pours)
                return
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    transit.url = f"http://127.0.0.1:{server.server_address[1]}/v1/transit"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield transit
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
