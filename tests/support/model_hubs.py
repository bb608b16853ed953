"""A local server that speaks what model sources speak: two hubs, a package index, an OCI registry. It can cut wires."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BIG_BYTES = 20_000
"""Files from this size on are cut."""


@dataclass
class Hubs:
    """State of the server; tests change it and read it."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Of the one repository `org/tiny`."""
    wheels: dict[str, bytes] = field(default_factory=dict)
    cuts: int = 0
    """How many of the next big answers end half way."""
    cut_after: int = 10_000
    ranges: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    """When set, the registry wants this bearer token and names a realm that gives it."""
    realm: str = ""
    """Where the registry has tokens fetched; empty: here."""
    away: tuple[str, str] = ("", "")
    """Part of a path, and the server to which requests for such paths are redirected."""
    logins: list[tuple[str, str]] = field(default_factory=list)
    """Path and login of each request."""
    url: str = ""


@contextmanager
def running_hubs(trust: ssl.SSLContext | None = None) -> Iterator[Hubs]:
    """Run the server on a free port of loopback, over TLS with `trust`."""
    hubs = Hubs()

    class Handler(_Handler):
        state = hubs

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a client that left early."""

    server = Server(("127.0.0.1", 0), Handler)
    if trust is not None:
        server.socket = trust.wrap_socket(server.socket, server_side=True)
    hubs.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hubs
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def load_folder(hubs: Hubs, folder: Path) -> None:
    """Put the files of a folder into the repository."""
    hubs.files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class _Handler(BaseHTTPRequestHandler):
    state: Hubs
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        self.state.requests.append(f"{self.command} {self.path}")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        self.state.logins.append((path, self.headers.get("Authorization", "") + self.headers.get("Cookie", "")))
        part, server = self.state.away
        if part and part in path:
            return self._answer(302, b"", {"Location": server + self.path})
        if path.startswith("/v2/"):
            return self._registry(path)
        if path.startswith("/api/models/org/tiny"):
            return self._hf_info()
        if path.startswith("/org/tiny/resolve/"):
            return self._file(self.state.files.get(path.split("/", 5)[5]))
        if path == "/api/v1/models/org/tiny/repo/files":
            return self._ms_files()
        if path == "/api/v1/models/org/tiny/repo":
            return self._file(self.state.files.get(query["FilePath"][0]))
        if path == "/token":
            return self._json({"token": self.state.token})
        if path.startswith("/simple/"):
            return self._simple(path.split("/")[2])
        if path.startswith("/files/"):
            return self._file(self.state.wheels.get(path.removeprefix("/files/")))
        return self._json({"error": "Repository not found", "Code": 10010205001, "Message": "not found"}, 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self._denied():
            return
        self._drain()
        part, server = self.state.away
        self._answer(202, b"", {"Location": (server if part == "/upload/" else "") + "/upload/1?state=x"})

    def do_PUT(self) -> None:
        self.state.logins.append((self.path, self.headers.get("Authorization", "")))
        if self._denied():
            return None
        data = self._drain()
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path.startswith("/upload/"):
            digest = query["digest"][0]
            right = digest == "sha256:" + hashlib.sha256(data).hexdigest()
            if right:
                self.state.blobs[digest] = data
            return self._answer(201 if right else 400, b"")
        for blob in _digests(data):
            if blob not in self.state.blobs:
                return self._answer(400, b"blob unknown")
        self.state.manifests[path.rsplit("/", 1)[-1]] = data
        return self._answer(201, b"")

    def _registry(self, path: str) -> None:
        if self._denied():
            return None
        what, name = path.split("/")[-2:]
        if what == "manifests":
            data = self.state.manifests.get(name)
            return (
                self._answer(200, data, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
                if data
                else (self._answer(404, b""))
            )
        return self._file(self.state.blobs.get(name))

    def _denied(self) -> bool:
        if not self.state.token or self.headers.get("Authorization") == f"Bearer {self.state.token}":
            return False
        if self.command in ("POST", "PUT"):
            self._drain()
        realm = f"{self.state.realm or self.state.url}/token"
        challenge = f'Bearer realm="{realm}",service="registry",scope="repository:x:pull,push"'
        self._answer(401, b"", {"WWW-Authenticate": challenge})
        return True

    def _hf_info(self) -> None:
        siblings = [
            {"rfilename": n, "size": len(d), "blobId": "0" * 40}
            | ({"lfs": {"size": len(d), "sha256": hashlib.sha256(d).hexdigest(), "pointerSize": 134}} if big(d) else {})
            for n, d in self.state.files.items()
        ]
        info = {"id": "org/tiny", "modelId": "org/tiny", "sha": COMMIT, "private": False, "tags": ["license:mit"]}
        return self._json(info | {"siblings": siblings, "downloads": 0, "likes": 0})

    def _ms_files(self) -> None:
        files = [
            {"Path": n, "Name": n, "Size": len(d), "Sha256": hashlib.sha256(d).hexdigest(), "Type": "blob"}
            for n, d in self.state.files.items()
        ]
        return self._json({"Code": 200, "Success": True, "Data": {"Files": files}})

    def _simple(self, package: str) -> None:
        files = [
            {"filename": n, "url": f"/files/{n}", "hashes": {"sha256": hashlib.sha256(d).hexdigest()}, "size": len(d)}
            for n, d in self.state.wheels.items()
            if n.split("-")[0].replace("_", "-") == package
        ]
        if not files:
            return self._json({}, 404)
        body = json.dumps({"meta": {"api-version": "1.0"}, "name": package, "files": files}).encode()
        return self._answer(200, body, {"Content-Type": "application/vnd.pypi.simple.v1+json"})

    def _file(self, data: bytes | None) -> None:
        if data is None:
            return self._json({"error": "Entry not found"}, 404)
        start = 0
        asked = self.headers.get("Range")
        if asked:
            self.state.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                return self._answer(416, b"")
        headers = {"Content-Length": str(len(data) - start), "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(206 if asked else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        body = data[start:]
        if self.state.cuts and len(data) >= BIG_BYTES:
            self.state.cuts -= 1
            self.wfile.write(body[: self.state.cut_after])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return None
        self.wfile.write(body)
        return None

    def _json(self, document: object, status: int = 200) -> None:
        self._answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _drain(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


def big(data: bytes) -> bool:
    return len(data) >= BIG_BYTES


def _digests(manifest: bytes) -> list[str]:
    document = json.loads(manifest)
    return [document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]
