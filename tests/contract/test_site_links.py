"""Every place where the tree of a centre lies: what it gives, and what it does when it is hostile or gone."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from s3_server import KEYS

from ashore.control.sites import links
from ashore.control.sites.links import BucketLink, FolderLink, HttpLink, checked_path, open_link, tree_of
from ashore.control.sites.ports import CentreLink, TooSlow, Tree, WrongBytes, read_whole
from ashore.core.errors import InvalidRequest, NotFound, PermissionDenied, RemoteRefused, SourceUnreachable
from ashore.kit.egress import parse_allow

BODY = bytes(range(256)) * 900
ALLOW = parse_allow(["127.0.0.1@127.0.0.0/8"])


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve a folder with ranges, as any web server; take what is put."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = folder / self.path[1:]
            status = {"no": 403, "busy": 503}.get(file.name, 200 if file.is_file() else 404)
            data = file.read_bytes() if status == 200 else b""
            start = int(self.headers.get("range", "bytes=0-")[6:-1])
            self.send_response(206 if start and status == 200 else status)
            self.send_header("content-length", str(len(data) - start))
            self.send_header("content-range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[start:])

        def do_PUT(self) -> None:
            file = folder / self.path[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["folder", "http", "bucket"])
def link(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CentreLink]:
    if request.param == "http":
        with web_server(tmp_path) as url:
            made = HttpLink(url, allow=ALLOW)
            yield made
            made.close()
        return
    if request.param == "folder":
        yield FolderLink(tmp_path / "tree")
        return
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": request.getfixturevalue("s3_url")}.items():
        monkeypatch.setenv(name, value)
    import obstore
    from obstore.store import S3Store

    store = S3Store("sites", client_options={"allow_http": True}, endpoint=request.getfixturevalue("s3_url"))
    obstore.put(store, "made", b"")  # the server makes the bucket
    yield BucketLink(f"s3://sites/{tmp_path.name}")


def test_what_is_put_is_read_whole_and_from_any_byte(link: CentreLink) -> None:
    link.put("reports/a/1.json", b"first")
    link.put("reports/a/1.json", BODY)
    assert read_whole(link, "reports/a/1.json", limit=len(BODY)) == BODY
    for start in (1, 70_000, len(BODY) - 1):
        assert b"".join(link.read("reports/a/1.json", start=start, limit=len(BODY))) == BODY[start:]


def test_what_is_not_there_and_what_is_too_long(link: CentreLink) -> None:
    link.put("a", BODY)
    with pytest.raises(NotFound):
        read_whole(link, "segments/no-such", limit=10)
    for start in (0, 1000):
        with pytest.raises(WrongBytes, match="than"):
            b"".join(link.read("a", start=start, limit=1001 if start else len(BODY) - 1))


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../b", "a//b", "", "a\\b", "a/.hidden", "ä", "a?b", "a%2e"])
def test_a_path_out_of_the_tree_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest):
        checked_path(path)


def test_a_tree_lists_and_forgets(link: CentreLink) -> None:
    if isinstance(link, HttpLink):
        pytest.skip("a web server is only read")
    tree: Tree = link  # type: ignore[assignment]
    for name in ("segments/aa/one", "segments/bb/two", "metadata/x"):
        tree.put(name, name.encode())
    assert dict(tree.names("segments")) == {"segments/aa/one": 15, "segments/bb/two": 15}
    assert tree.has("metadata/x")
    tree.remove("metadata/x")
    tree.remove("metadata/x")
    assert not tree.has("metadata/x")


def test_places() -> None:
    assert isinstance(open_link("https://centre.example/site", allow=()), HttpLink)
    assert isinstance(open_link("s3://bucket/path", allow=None), BucketLink)
    assert isinstance(tree_of("s3://bucket/path", Path("x")), BucketLink)
    for place in (open_link("/media/stick", allow=None), tree_of("folder:/media/stick", Path("x"))):
        assert isinstance(place, FolderLink) and place.folder == Path("/media/stick")


def test_a_stick_of_a_stranger_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "out").mkdir()
    stick = tmp_path / "stick"
    (stick / "segments").mkdir(parents=True)
    (stick / "segments/link").symlink_to(tmp_path / "secret")
    (stick / "away").symlink_to(tmp_path)
    (stick / "reports").symlink_to(tmp_path / "out")
    os.mkfifo(stick / "segments/pipe")
    (stick / "segments/folder").mkdir()
    (stick / "segments/an odd name.json").write_bytes(b"no path of a tree")
    link = FolderLink(stick)
    for path in ("segments/link", "away/secret", "segments/pipe", "segments/folder", "segments/folder/x/y"):
        with pytest.raises((SourceUnreachable, NotFound, WrongBytes)):
            read_whole(link, path, limit=100)
    with pytest.raises(SourceUnreachable):
        link.put("reports/a/1.json", b"x")
    assert list((tmp_path / "out").iterdir()) == [] and list(link.names("segments")) == []
    (stick / "target").symlink_to(tmp_path / "secret")
    link.put("target", b"ours")
    assert (tmp_path / "secret").read_bytes() == b"secret" and read_whole(link, "target", limit=9) == b"ours"
    assert not [one for one in stick.iterdir() if one.name.startswith(".tmp")]


def test_a_stick_that_is_not_there_is_away(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachable, match="is not there"):
        read_whole(FolderLink(tmp_path / "gone"), "a/b", limit=1)


def test_a_refusal_and_a_server_that_is_busy_or_gone(tmp_path: Path) -> None:
    with web_server(tmp_path) as url:
        link = HttpLink(url, allow=ALLOW)
        with pytest.raises(RemoteRefused):
            read_whole(link, "no", limit=10)
        with pytest.raises(SourceUnreachable, match="503"):
            read_whole(link, "busy", limit=10)
    with pytest.raises(SourceUnreachable, match="cannot be reached"):
        read_whole(link, "a", limit=10)
    link.close()


def test_only_hosts_of_egress_are_called(tmp_path: Path) -> None:
    with web_server(tmp_path) as url, pytest.raises(PermissionDenied, match="egress"):
        read_whole(HttpLink(url, allow=parse_allow(["centre.example"])), "a", limit=10)


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answer each connection with whatever bytes."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            try:
                answer(connection)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    accepting.join()
    for thread in threads:
        thread.join()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n"


def _endless(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    while True:
        connection.sendall(bytes(65536))


def _trickle(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"content-length: 100000\r\n\r\n")
    for _ in range(400):
        connection.sendall(b"x")
        time.sleep(0.02)


def _headers_byte_by_byte(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-long: ")
    for _ in range(400):
        connection.sendall(b"x")
        time.sleep(0.02)


def _another_part(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 206 Partial\r\ncontent-length: 5\r\ncontent-range: bytes 0-4/99\r\n\r\nabcde")


def _cut(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"content-length: 50\r\n\r\nabc")


def _no_http(connection: socket.socket) -> None:
    connection.sendall(b"\xff\x00 SSH-2.0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_endless, WrongBytes),
        (_trickle, TooSlow),
        (_headers_byte_by_byte, TooSlow),
        (_another_part, WrongBytes),
        (_cut, SourceUnreachable),
        (_no_http, SourceUnreachable),
    ],
)
def test_a_hostile_server(
    answer: Callable[[socket.socket], None], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "WINDOW_S", 0.5)
    with raw_server(answer) as url:
        link = HttpLink(url, allow=ALLOW)
        with pytest.raises(error):
            b"".join(link.read("a", start=7, limit=1 << 20))
        link.close()


def test_a_server_without_ranges_costs_bytes_and_no_error() -> None:
    def whole(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)

    with raw_server(whole) as url:
        link = HttpLink(url, allow=ALLOW)
        assert b"".join(link.read("a", start=66_000, limit=len(BODY))) == BODY[66_000:]
        link.close()
