"""Weights that move to a bucket and back, on a real S3 server; whatever dies in between, no blob is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from s3_server import KEYS
from store_making import make_store, pull_tiny

from ashore.core.errors import CorruptBlob, SourceUnreachable, WeightsAway
from ashore.kit.store import ModelStore
from ashore.kit.store.tiers import weights_of

PLACE = "s3://models/cold"


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    return s3_url


def test_weights_go_names_and_texts_stay_and_all_comes_back(tmp_path: Path, s3: str) -> None:
    store = make_store(tmp_path / "a")
    model = pull_tiny(store, tmp_path)
    weights = weights_of(model)
    freed = store.send_away("tiny", PLACE)
    assert freed == sum(file.num_bytes for file in weights) > 0
    assert not any(store.blob_path(file.digest).exists() for file in weights)
    assert store.is_away("tiny") and store.resolve("tiny") == model
    with pytest.raises(WeightsAway, match="in s3://models/cold, and not on this disk"):
        store.open("tiny")
    texts = store.open("tiny", without_weights=True)
    assert (texts.directory / "tokenizer.json").is_file()
    assert not (texts.directory / model.weights).exists()
    with pytest.raises(WeightsAway):
        store.export("tiny", tmp_path / "tiny.tar")
    assert not store.verify().bad
    assert store.gc().freed_bytes == 0
    assert store.fetch_back("tiny") == freed
    assert not store.is_away("tiny") and store.open("tiny", verify="full")
    assert store.fetch_back("tiny") == 0


def test_what_went_before_is_looked_at_and_not_sent_again(tmp_path: Path, s3: str) -> None:
    store = make_store(tmp_path / "a")
    pull_tiny(store, tmp_path)
    store.send_away("tiny", PLACE)
    store.fetch_back("tiny")
    sent: list[str] = []
    store.send_away("tiny", PLACE, progress=lambda stage, done, total: sent.append(stage))
    assert sent == [] and store.is_away("tiny")


def test_what_another_model_needs_stays_here(tmp_path: Path, s3: str) -> None:
    store = make_store(tmp_path / "a")
    model = pull_tiny(store, tmp_path)
    folder = tmp_path / "variant"
    folder.mkdir()
    file = weights_of(model)[0]
    (folder / "w.safetensors").write_bytes(store.blob_path(file.digest).read_bytes())
    store.add_variant(model, "copy", folder, format=model.format, weights="w.safetensors", recipe={})
    assert store.send_away("tiny", PLACE) == sum(one.num_bytes for one in weights_of(model)[1:])
    assert store.blob_path(file.digest).exists() and store.open("tiny@copy", verify="full")


def test_what_the_bucket_gives_back_wrong_is_not_taken(tmp_path: Path, s3: str) -> None:
    import obstore

    from ashore.kit.store.sources.s3 import ModelBucket

    store = make_store(tmp_path / "a")
    model = pull_tiny(store, tmp_path)
    store.send_away("tiny", "s3://models/spoilt")
    bucket, file = ModelBucket("s3://models/spoilt"), weights_of(model)[0]
    key = bucket.key(f"blobs/sha256/{file.digest.removeprefix('sha256:')}")
    obstore.put(bucket.store, key, b"x" * file.num_bytes)
    with pytest.raises(CorruptBlob, match="has the hash"):
        store.fetch_back("tiny")
    assert store.is_away("tiny")


def test_without_the_bucket_everything_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = make_store(tmp_path / "a")
    pull_tiny(store, tmp_path)
    with pytest.raises(SourceUnreachable):
        store.send_away("tiny", PLACE)
    assert not store.is_away("tiny") and store.open("tiny", verify="full")


KILLED = """
import os, signal, sys
from pathlib import Path
from store_making import make_store
from ashore.kit.store import layout, tiers
store, step = make_store(Path(sys.argv[1])), int(sys.argv[3])
calls = 0
def counted(function):
    def call(*args, **more):
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **more)
    return call
for where, name in ((tiers, "write_atomic"), (layout.Layout, "remove_blob"), (layout.Layout, "link_file"),
                    (tiers.S3LayoutRemote, "send_blob"), (tiers.S3LayoutRemote, "hash_of"),
                    (tiers.S3LayoutRemote, "fetch_blob"), (tiers, "fsync_file")):
    setattr(where, name, counted(getattr(where, name)))
store.send_away("tiny", sys.argv[4]) if sys.argv[2] == "away" else store.fetch_back("tiny")
"""


def test_a_kill_at_any_step_loses_nothing(tmp_path: Path, s3: str) -> None:
    store = make_store(tmp_path / "a")
    model = pull_tiny(store, tmp_path)
    weights = weights_of(model)
    support = str(Path(__file__).parents[1] / "support")

    def run(way: str, step: int) -> int:
        words = [sys.executable, "-c", KILLED, str(tmp_path / "a"), way, str(step), f"s3://models/killed-{step}"]
        environ = {**os.environ, "PYTHONPATH": support}
        return subprocess.run(words, env=environ, check=False, capture_output=True).returncode

    for way in ("away", "back"):
        for step in range(1, 20):
            code = run(way, step)
            fresh: ModelStore = make_store(tmp_path / "a")
            for file in weights:
                here = fresh.blob_path(file.digest)
                whole = here.exists() and here.stat().st_size == file.num_bytes
                assert whole or fresh.is_away("tiny"), f"{way}, killed at step {step}"
            if code == 0:
                break
            assert code == -signal.SIGKILL
            fresh.fetch_back("tiny")
            assert fresh.open("tiny", verify="full")
            if way == "back":
                fresh.send_away("tiny", PLACE)
        else:
            raise AssertionError(f"{way} never came to its end")
        fresh.send_away("tiny", PLACE)


def test_the_command_brings_weights_back(tmp_path: Path, s3: str) -> None:
    home = tmp_path / "home"
    store = make_store(home)
    pull_tiny(store, tmp_path)
    store.send_away("tiny", PLACE)
    words = [sys.executable, "-m", "ashore.cli.main", "model", "fetch", "tiny"]
    environ = {**os.environ, "ASHORE_HOME": str(home)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=environ, capture_output=True, text=True, check=True)

    assert "fetched" in run().stdout
    assert run().stdout == "tiny is on this disk\n"
