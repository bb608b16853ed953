"""A real model whose weights are in a bucket answers after one request: bytes, then the load, then the answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import KEYS
from served import Served, call, owner_key, start_served
from waiting import eventually

CONFIG = """\
[tiers]
cold = "s3://models/cold"
[[model]]
name = "smollm2"
load = "demand"
"""


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, demo_home: Path, s3_url: str, free_port: Callable[[], int]
) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("cold") / "home"
    home.mkdir()
    subprocess.run(["cp", "-al", str((demo_home / "store").resolve()), str(home / "store")], check=True)
    env = {**KEYS, "AWS_ENDPOINT_URL": s3_url}
    server = start_served(home, (), store=None, port=free_port(), grpc_port=free_port(), config=CONFIG, env=env)
    yield server
    server.stop()


def ask(house: Served, key: str, question: str = "Name the capital of France in a full sentence.") -> str:
    request = {"model": "smollm2", "temperature": 0, "messages": [{"role": "user", "content": question}]}
    answer = call(house, "POST", "/v1/chat/completions", key, request)
    return str(answer["choices"][0]["message"]["content"])


def weights(home: Path) -> int:
    """Return the bytes of large files in the store."""
    blobs = (home / "store" / "blobs" / "sha256").iterdir()
    return sum(size for blob in blobs if (size := blob.stat().st_size) > 50_000_000)


def test_it_goes_to_the_bucket_and_comes_back_for_one_request(house: Served) -> None:
    key = owner_key(house)
    before = weights(house.home)

    def standing() -> dict[str, object]:
        return dict(call(house, "GET", "/admin/v1/models", key)["items"][0])

    ashore = [sys.executable, "-m", "ashore.cli.main", "model"]
    environ = {**os.environ, "ASHORE_HOME": str(house.home), "ASHORE_API_KEY": key}
    began = time.monotonic()
    assert "Paris" in ask(house, key)
    from_disk_s = time.monotonic() - began
    said = subprocess.run([*ashore, "cool", "smollm2", "--to", "s3"], env=environ, capture_output=True, text=True)
    assert said.stdout == "smollm2 is cold, in bucket\n", said.stderr
    assert weights(house.home) < before
    listed = call(house, "GET", "/v1/models", key)["data"][0]
    assert (listed["state"], listed["ready"]) == ("cold", True)
    assert "Paris" in ask(house, key), "a cached answer needs no weights"
    assert standing()["tier"] == "bucket"
    began = time.monotonic()
    assert "Paris" in ask(house, key, "What is the capital of France? Answer in a full sentence.")
    from_bucket_s = time.monotonic() - began
    assert weights(house.home) == before
    assert standing()["tier"] == "memory"
    print(f"from disk {from_disk_s:.2f} s, from the bucket {from_bucket_s:.2f} s")
    call(house, "POST", "/admin/v1/models/smollm2/cool", key, {})
    eventually(lambda: standing()["state"] == "cold", 20)
    assert standing()["tier"] == "disk"
