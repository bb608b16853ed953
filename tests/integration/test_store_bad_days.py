"""Pulls that are killed, fill the disk, or run at the same time: what is left, and that the next try succeeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from model_hubs import load_folder, running_hubs
from store_making import make_store
from tiny_models import make_tiny_model

from ashore.core.clock import ManualClock
from ashore.core.errors import DiskFull
from ashore.kit.store import Endpoints, ModelStore, open_source

PULL = """
import sys, time
from pathlib import Path
from ashore.core.clock import SystemClock
from ashore.kit.store import Endpoints, ModelStore, open_source
from functools import partial
home, source, endpoint, stall = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
def progress(stage, done, total):
    if stall and stage.startswith(stall) and done:
        print("stalled", flush=True)
        time.sleep(60)
store = ModelStore(home / "store", home / "run/models", SystemClock(),
    sources=partial(open_source, endpoints=Endpoints(hugging_face=endpoint)))
print(store.pull(source, name="it", progress=progress).digest)
"""


def start_pull(home: Path, source: str, endpoint: str = "", stall: str = "") -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PULL, str(home), source, endpoint, stall]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stage", ["download model", "hash model", "hash README"])
def test_a_pull_killed_at_any_stage_goes_on(tmp_path: Path, stage: str) -> None:
    with running_hubs() as hubs:
        load_folder(hubs, make_tiny_model(tmp_path / "tiny", "llama"))
        with start_pull(tmp_path / "home", "hf:org/tiny", hubs.url, stage) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "stalled\n"
            process.send_signal(signal.SIGKILL)
        assert make_store(tmp_path / "home").list() == ()
        fetched = len([r for r in hubs.requests if "/resolve/" in r and "model.safetensors" in r])
        assert fetched == 1
        opener = partial(open_source, endpoints=Endpoints(hugging_face=hubs.url))
        home = tmp_path / "home"
        store = ModelStore(home / "store", home / "run/models", ManualClock(), sources=opener)
        store.pull("hf:org/tiny", name="it")
        again = len([r for r in hubs.requests if "/resolve/" in r and "model.safetensors" in r]) - fetched
        assert again == (1 if stage.startswith("download") else 0)
        if again:
            assert len(hubs.ranges) == 1
        assert store.open("it", verify="full")
        assert list((tmp_path / "home/store/staging").glob("*/*")) == []


def test_two_processes_that_pull_one_source_fetch_it_once(tmp_path: Path) -> None:
    with running_hubs() as hubs:
        load_folder(hubs, make_tiny_model(tmp_path / "tiny", "llama"))
        pulls = [start_pull(tmp_path / "home", "hf:org/tiny", hubs.url) for _ in range(2)]
        answers = [p.communicate(timeout=120)[0] for p in pulls]
        assert answers[0] == answers[1] != ""
        assert len([r for r in hubs.requests if "/resolve/" in r and "model.safetensors" in r]) == 1
        assert len(make_store(tmp_path / "home").list()) == 1


def test_a_full_disk_is_told_and_the_pull_goes_on_when_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))
    with running_hubs() as hubs:
        load_folder(hubs, folder)
        opener = partial(open_source, endpoints=Endpoints(hugging_face=hubs.url))
        store = ModelStore(small_disk / "store", small_disk / "run", ManualClock(), sources=opener)
        with pytest.raises(DiskFull, match="is full") as caught:
            store.pull("hf:org/tiny")
        assert "resumes" in caught.value.hint
        assert store.list() == ()
        kept = sum(p.stat().st_size for p in (small_disk / "store/staging").rglob("*.part"))
        assert kept > 0
        ballast.unlink()
        assert store.pull("hf:org/tiny").name == "tiny"
        assert hubs.ranges == [f"bytes={kept}-"]
        assert store.verify().ok


def test_a_disk_that_fills_up_at_the_last_moment_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index cannot be written: no name, no half model, and the next call succeeds."""
    import errno

    store = make_store(tmp_path)
    folder = make_tiny_model(tmp_path / "tiny", "qwen2")
    before = (store.root / "index.json").read_bytes()

    def refuse(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(DiskFull):
            store.pull(str(folder))
    assert (store.root / "index.json").read_bytes() == before
    assert not list(store.root.rglob(".tmp-*"))
    assert store.pull(str(folder)).name == "tiny"
    assert store.verify().ok


def test_gc_leaves_a_running_pull_alone_and_sweeps_an_old_one(tmp_path: Path) -> None:
    with running_hubs() as hubs:
        load_folder(hubs, make_tiny_model(tmp_path / "tiny", "llama"))
        with start_pull(tmp_path / "home", "hf:org/tiny", hubs.url, "hash model") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "stalled\n"
            home = tmp_path / "home"
            clock = ManualClock(now_s=time.time() + 30 * 86_400)
            store = ModelStore(home / "store", home / "run/models", clock)
            store.gc()
            assert list((home / "store/staging").glob("*/files"))
            process.send_signal(signal.SIGKILL)
    assert store.gc().freed_bytes > 100_000
    assert not list((home / "store/staging").glob("*/files"))
