"""`oci://` against a real registry: Debian's docker-registry. Skipped aloud where it is not installed."""

from __future__ import annotations

import base64
import contextlib
import json
import select
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from store_making import make_store
from tiny_models import make_tiny_model
from valkey_server import free_port

from ashore.core.errors import AshoreError, RemoteRefused, UnknownModel

PROGRAM = shutil.which("docker-registry")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="apt-get install docker-registry")

CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}", secret: for-tests}}
{auth}
"""
AUTH = "auth: {{htpasswd: {{realm: tests, path: {path}}}}}"
SESAME = "tester:$2y$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O"
"""bcrypt of `sesame`."""


@dataclass
class Registry:
    """A running registry and, in front of it, a line that can be cut."""

    port: int
    line: int
    cuts: list[int] = field(default_factory=list)
    """Bytes towards the client after which the next connections break off, one number for each."""
    ranges: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.line}"


@contextlib.contextmanager
def running(folder: Path, *, auth: str = "") -> Iterator[Registry]:
    folder.mkdir(exist_ok=True)
    port = free_port()
    (folder / "config.yml").write_text(CONFIG.format(root=folder / "data", port=port, auth=auth))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([str(PROGRAM), "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        end_s = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < end_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        assert process.poll() is None, (folder / "log").read_text()
        with line_to(port) as registry:
            yield registry
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def line_to(port: int) -> Iterator[Registry]:
    """Pass bytes both ways between clients and the registry, noting ranges and breaking off where a test says."""
    server = socket.create_server(("127.0.0.1", 0))
    registry = Registry(port=port, line=server.getsockname()[1])
    threads: list[threading.Thread] = []

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            thread = threading.Thread(target=_carry, args=(client, registry))
            thread.start()
            threads.append(thread)

    acceptor = threading.Thread(target=serve)
    acceptor.start()
    try:
        yield registry
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        acceptor.join()
        for thread in threads:
            thread.join(10)


def _carry(client: socket.socket, registry: Registry) -> None:
    with client, socket.create_connection(("127.0.0.1", registry.port)) as upstream:
        left = None
        while True:
            ready, _, _ = select.select([client, upstream], [], [], 5)
            if not ready:
                return
            for side in ready:
                with contextlib.suppress(ConnectionResetError):
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is client:
                        upstream.sendall(data)
                        head = data.decode("latin-1").lower()
                        registry.ranges += [r.split(": ")[1] for r in head.split("\r\n") if r.startswith("range: ")]
                        if head.startswith("get ") and "/blobs/" in head and left is None and registry.cuts:
                            left = registry.cuts.pop(0)
                        continue
                    client.sendall(data if left is None else data[:left])
                    if left is not None:
                        left -= len(data)
                        if left <= 0:
                            return


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with running(tmp_path / "registry") as one:
        yield one


def test_a_model_goes_up_and_comes_down_as_it_was(tmp_path: Path, registry: Registry) -> None:
    sender, receiver = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    sent = sender.pull(str(make_tiny_model(tmp_path / "tiny", "qwen2")), name="tiny")
    target = f"oci://{registry.host}/models/tiny"
    digest = sender.push("tiny", f"{target}:v1")
    got = receiver.pull(f"{target}:v1", name="it")
    assert (got.digest, got.files, got.shape, got.licence) == (sent.digest, sent.files, sent.shape, sent.licence)
    assert receiver.open("it", verify="full")
    assert make_store(tmp_path / "c").pull(f"{target}@{digest}", name="pinned").digest == sent.digest
    with urllib.request.urlopen(f"http://{registry.host}/v2/models/tiny/tags/list") as answer:
        assert json.load(answer) == {"name": "models/tiny", "tags": ["v1"]}


def test_what_is_attached_goes_along(tmp_path: Path, registry: Registry) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    model = here.pull(str(make_tiny_model(tmp_path / "tiny", "qwen2")), name="tiny")
    target = f"oci://{registry.host}/models/attached:v1"
    for n in range(2):
        here.attach(model, "evaluation", {"report.json": b"%d" % n})
        here.push("tiny", target)
    for _ in range(2):
        got = there.pull(target, name="it")
        found = there.attachments(got, "evaluation")
        assert {there.read_attachment(one, "report.json") for one in found} == {b"0", b"1"}
    assert got.digest == model.digest


def test_what_the_registry_has_is_not_sent_again(tmp_path: Path, registry: Registry) -> None:
    sender = make_store(tmp_path / "a")
    sender.pull(str(make_tiny_model(tmp_path / "tiny", "qwen2")), name="tiny")
    sent: list[str] = []
    for tag in ("v1", "v2"):
        sent.clear()
        sender.push("tiny", f"oci://{registry.host}/models/tiny:{tag}", progress=lambda stage, *_: sent.append(stage))
        assert any(stage.startswith("upload") for stage in sent) == (tag == "v1")


def test_a_pull_that_is_cut_goes_on_where_it_was_cut(tmp_path: Path, registry: Registry) -> None:
    sender, receiver = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    sent = sender.pull(str(make_tiny_model(tmp_path / "tiny", "llama")), name="tiny")
    target = f"oci://{registry.host}/models/tiny:v1"
    sender.push("tiny", target)
    largest = max(sent.files, key=lambda file: file.num_bytes)
    registry.cuts = [largest.num_bytes // 2] * len(sent.files)
    got = receiver.pull(target, name="it")
    assert got.digest == sent.digest
    starts = [int(r.removeprefix("bytes=").partition("-")[0]) for r in registry.ranges]
    assert starts and max(starts) > largest.num_bytes // 4, f"resumed at {starts}"
    assert receiver.open("it", verify="full")


def test_a_registry_that_dies_in_mid_pull_is_taken_up_by_the_next_try(tmp_path: Path) -> None:
    sender, receiver = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    sent = sender.pull(str(make_tiny_model(tmp_path / "tiny", "llama")), name="tiny")
    largest = max(sent.files, key=lambda file: file.num_bytes)
    with running(tmp_path / "registry") as first:
        sender.push("tiny", f"oci://{first.host}/models/tiny:v1")
        first.cuts = [largest.num_bytes // 2, *[0] * 40]
        with pytest.raises(AshoreError) as caught:
            receiver.pull(f"oci://{first.host}/models/tiny:v1", name="it")
        assert caught.value.hint
    with running(tmp_path / "registry") as second:
        assert receiver.pull(f"oci://{second.host}/models/tiny:v1", name="it").digest == sent.digest
    assert receiver.open("it", verify="full")


def test_names_that_are_not_there_are_told(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(UnknownModel, match="models/none:latest"):
        make_store(tmp_path / "b").pull(f"oci://{registry.host}/models/none")


def test_a_password_of_docker_login_is_used_and_a_missing_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "htpasswd").write_text(SESAME + "\n")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    sender = make_store(tmp_path / "a")
    sender.pull(str(make_tiny_model(tmp_path / "tiny", "qwen2")), name="tiny")
    with running(tmp_path / "registry", auth=AUTH.format(path=tmp_path / "htpasswd")) as registry:
        target = f"oci://{registry.host}/models/tiny:v1"
        with pytest.raises(RemoteRefused, match="401"):
            sender.push("tiny", target)
        login = base64.b64encode(b"tester:sesame").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
        sender.push("tiny", target)
        assert make_store(tmp_path / "b").pull(target, name="it").digest == sender.resolve("tiny").digest
