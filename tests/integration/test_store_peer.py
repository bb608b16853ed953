"""Models from another machine's store over mutual TLS: as they were, resumed, and for nobody without a certificate."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from store_making import make_store
from tiny_models import make_tiny_model

from ashore.core.identity import Identity
from ashore.edge import make_node_certificate
from ashore.errors import InvalidSpec, RemoteRefused, SourceUnreachable, UnknownModel
from ashore.store import ModelStore, peerserver
from ashore.store.peerserver import serve_store

NOW = datetime.datetime.now(datetime.UTC)


def identity(folder: Path, name: str, *, authority: str = "authority", address: str = "127.0.0.1") -> Identity:
    make_node_certificate(folder / authority, folder / name, name, [address], NOW)
    return Identity(folder=folder / name)


def receiver(folder: Path, who: Identity) -> ModelStore:
    return make_store(folder, identity=who.folder)


class Peer:
    """A store that is shared, and what it told of who asked."""

    def __init__(self, store: ModelStore, who: Identity) -> None:
        self.told: list[str] = []
        self.server = serve_store(store.shelves(), host="127.0.0.1", port=0, identity=who, told=self.told.append)
        self.port = self.server.server_address[1]
        self.url = f"peer://127.0.0.1:{self.port}"


@contextlib.contextmanager
def shared(store: ModelStore, who: Identity) -> Iterator[Peer]:
    peer = Peer(store, who)
    thread = threading.Thread(target=peer.server.serve_forever)
    thread.start()
    try:
        yield peer
    finally:
        peer.server.shutdown()
        thread.join()
        peer.server.server_close()


@pytest.fixture
def sender(tmp_path: Path) -> ModelStore:
    store = make_store(tmp_path / "a")
    store.pull(str(make_tiny_model(tmp_path / "tiny", "qwen2")), name="tiny")
    return store


def test_a_model_comes_over_as_it_was_with_what_is_attached_to_it(tmp_path: Path, sender: ModelStore) -> None:
    sent = sender.resolve("tiny")
    sender.attach(sent, "evaluation", {"report.json": b"{}"})
    store = receiver(tmp_path / "b", identity(tmp_path, "gpu-1"))
    with shared(sender, identity(tmp_path, "front")) as peer:
        got = store.pull(f"{peer.url}/tiny")
        assert (got.digest, got.files, got.name) == (sent.digest, sent.files, "tiny")
        assert store.open("tiny", verify="full")
        assert [one.kind for one in store.attachments(got)] == ["evaluation"]
        assert store.pull(f"{peer.url}/tiny@{sent.digest}", name="pinned").digest == sent.digest
        assert store.pull(f"{peer.url}/tiny", name="words", text_only=True).variant == "text"
        with pytest.raises(UnknownModel, match="has no other"):
            store.pull(f"{peer.url}/other")
        with pytest.raises(RemoteRefused):
            store.push("tiny", f"{peer.url}/tiny")
    assert any(line.startswith("gpu-1: ") for line in peer.told)


def test_a_pull_that_is_cut_off_goes_on_where_it_was(
    tmp_path: Path, sender: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(sender.resolve("tiny").files, key=lambda one: one.num_bytes)
    cut, asked = [largest.num_bytes // 2], []
    whole = peerserver._Handler._send_file

    def send(self: peerserver._Handler, file: object) -> None:
        if self.path.endswith(largest.digest) and self.command == "GET":
            asked.append(self.headers.get("Range"))
            if cut:
                self.send_response(200)
                self.send_header("Content-Length", str(largest.num_bytes))
                self.end_headers()
                self.wfile.write(file.read(cut.pop()))  # type: ignore[attr-defined]
                self.close_connection = True
                return
        whole(self, file)  # type: ignore[arg-type]

    monkeypatch.setattr(peerserver._Handler, "_send_file", send)
    store = receiver(tmp_path / "b", identity(tmp_path, "gpu-1"))
    with shared(sender, identity(tmp_path, "front")) as peer:
        assert store.pull(f"{peer.url}/tiny").digest == sender.resolve("tiny").digest
    assert asked == [None, f"bytes={largest.num_bytes // 2}-"]


def test_who_has_no_certificate_of_the_authority_gets_no_word(tmp_path: Path, sender: ModelStore) -> None:
    own, stranger = identity(tmp_path, "front"), identity(tmp_path, "eve", authority="another")
    with shared(sender, own) as peer:
        with pytest.raises(SourceUnreachable):
            receiver(tmp_path / "b", stranger).pull(f"{peer.url}/tiny")
        bare = ssl.create_default_context(cafile=own.authority)
        with pytest.raises(httpx.TransportError), httpx.Client(verify=bare, trust_env=False) as client:
            client.get(f"https://127.0.0.1:{peer.port}/v2/")
        with socket.create_connection(("127.0.0.1", peer.port)) as plain:
            plain.sendall(b"GET /v2/tiny/manifests/latest HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"HTTP/1.1 2" not in plain.recv(1000)
        assert receiver(tmp_path / "c", own).pull(f"{peer.url}/tiny"), "it still serves its own"


def test_silent_connections_keep_nobody_out(
    tmp_path: Path, sender: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peerserver, "MOST_CONNECTIONS", 2)
    monkeypatch.setattr(peerserver, "HANDSHAKE_S", 600.0)
    monkeypatch.setattr(peerserver._Handler, "timeout", 600.0)
    monkeypatch.setattr(peerserver, "ROOM_S", 0.01)
    own = identity(tmp_path, "front")
    with shared(sender, own) as peer, contextlib.ExitStack() as held:
        for _ in range(3):  # a stranger's
            held.enter_context(socket.create_connection(("127.0.0.1", peer.port)))
        idle = held.enter_context(httpx.Client(verify=own.context(server=False), trust_env=False, timeout=60))
        assert idle.get(f"https://127.0.0.1:{peer.port}/v2/").status_code == 200
        assert receiver(tmp_path / "b", own).pull(f"{peer.url}/tiny"), "that of a friend who asks no more went too"


def test_a_range_that_ends_before_it_begins_is_none(tmp_path: Path, sender: ModelStore) -> None:
    own = identity(tmp_path, "front")
    file = max(sender.resolve("tiny").files, key=lambda one: one.num_bytes)
    with (
        shared(sender, own) as peer,
        httpx.Client(verify=own.context(server=False), trust_env=False, timeout=60) as client,
    ):
        url = f"https://127.0.0.1:{peer.port}/v2/tiny/blobs/{file.digest}"
        for asked, status, size in (
            ("bytes=5-2", 200, file.num_bytes),
            ("bytes=2-5", 206, 4),
            ("bytes=2-", 206, file.num_bytes - 2),
            (f"bytes={file.num_bytes}-", 416, 0),
            ("bytes=-5", 200, file.num_bytes),
        ):
            answer = client.get(url, headers={"Range": asked})
            assert (answer.status_code, len(answer.content)) == (status, size), asked


def test_a_peer_under_another_address_than_its_certificate_is_not_believed(tmp_path: Path, sender: ModelStore) -> None:
    with (
        shared(sender, identity(tmp_path, "front", address="10.0.0.1")) as peer,
        pytest.raises(SourceUnreachable, match="certificate"),
    ):
        receiver(tmp_path / "b", identity(tmp_path, "gpu-1")).pull(f"{peer.url}/tiny")


def test_without_a_certificate_it_is_said_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="cannot be used") as caught:
        receiver(tmp_path / "b", Identity(folder=tmp_path / "none")).pull("peer://127.0.0.1:1/tiny")
    assert "ashore fleet certificate" in caught.value.hint
