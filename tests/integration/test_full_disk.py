"""A disk without room: what cannot be written is told in words, and what was there stands."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tiny_models import make_tiny_model

from ashore.cli.bootstrap import build_store, open_model_files
from ashore.cli.main import report
from ashore.control.jobs.operations.handler import OperationHandler
from ashore.core.clock import SystemClock
from ashore.core.errors import DiskFull, UnknownModel
from ashore.data.engines import EngineOptions, HostLaunch, ModelFiles, ModelPlan
from ashore.data.jobs import Job, JobQueue, NewJob, SqlJobs
from ashore.data.jobs.model import Lease
from ashore.data.jobs.operations import Request, progress_of
from ashore.kit.processes.launchfiles import read_launch, write_launch
from ashore.kit.processes.lock import Holder, HomeLock
from ashore.kit.settings import Home
from ashore.kit.state import open_scratch

LAUNCH = HostLaunch(
    files=ModelFiles(name="m", digest="", directory="/nowhere", format="gguf"), options=EngineOptions(kind="fake")
)


@pytest.fixture
def full_disk(small_disk: Path) -> Iterator[Path]:
    """Give a folder on a disk that has room for nothing."""
    write_launch(LAUNCH, small_disk / "host-1.json")
    with open(small_disk / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
        while True:
            ballast.write(bytes(4096))
    yield small_disk


def test_a_launch_file_that_finds_no_room_is_told_and_the_one_before_stands(full_disk: Path) -> None:
    for name in ("host-1.json", "host-2.json"):
        with pytest.raises(DiskFull, match=rf"no space left to write .*{name}"):
            write_launch(LAUNCH, full_disk / name)
    assert read_launch(full_disk / "host-1.json", HostLaunch) == LAUNCH
    assert sorted(os.listdir(full_disk)) == ["ballast", "host-1.json"]


def test_a_home_whose_lock_finds_no_room_is_not_held(full_disk: Path) -> None:
    with pytest.raises(DiskFull, match="lock"):
        HomeLock.acquire(full_disk / "lock", Holder(pid=1, address="one"))
    (full_disk / "ballast").unlink()
    HomeLock.acquire(full_disk / "lock", Holder(pid=2, address="other")).release()


@pytest.mark.parametrize("made", ["nothing", "its lock"])
def test_a_server_that_starts_on_a_full_disk_says_so_in_two_lines(
    made: str, small_disk: Path, ashore: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    home = Home(root=small_disk / "home")
    if made != "nothing":
        home.create()
    if made == "its lock":
        HomeLock.acquire(home.lock, Holder(pid=1, address="one")).release()
        home.lock.write_bytes(b"{}" * 100)
    with open(small_disk / "ballast", "wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
        while True:
            ballast.write(bytes(4096))
    done = ashore("up", "fake:echo", "--port", "1", "--grpc-port", "0", home=home.root, timeout_s=60)
    assert done.returncode == DiskFull.exit_code, done.stderr
    assert "Traceback" not in done.stderr and "error: " in done.stderr and "hint: free some" in done.stderr


def test_wherever_a_command_meets_it_a_full_disk_is_no_bug_of_ours(
    full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        (full_disk / "new").write_bytes(bytes(100_000))
        return 0

    assert report(work) == DiskFull.exit_code
    said = capsys.readouterr().err
    assert "error: no room left on the disk" in said and "Traceback" not in said


def test_a_pull_as_a_job_that_finds_no_room_fails_with_the_reason_and_the_next_one_goes_on(
    small_disk: Path, tmp_path: Path
) -> None:
    source = make_tiny_model(tmp_path / "tiny", "llama")
    home = Home(root=small_disk / "home")
    home.create()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))
    queue = JobQueue(SqlJobs(open_scratch()), SystemClock())

    async def still_allowed(lease: Lease) -> None:
        return None

    handler = OperationHandler(queue, environment={"ASHORE_HOME": str(home.root)}, still_allowed=still_allowed)

    def pull(number: int) -> Job:
        asked = msgspec.Raw(msgspec.json.encode({"source": str(source), "name": "tiny"}))
        request = Request(name="model pull", asked=asked, action="model:pull", subject="model/tiny")
        payload = msgspec.json.encode(request)
        job_id = f"op_{number}"
        queue.submit(NewJob(job_id=job_id, kind="model pull", tenant="t", principal="ann", payload=payload))
        (lease,) = queue.lease(kinds=("model pull",), limit=1, owner="home")
        ended = queue.settle(lease, asyncio.run(handler.run(lease)))
        assert ended is not None
        return ended

    failed = pull(1)
    assert (failed.state, failed.error_code) == ("failed", "disk_full"), failed
    assert any("error: " in line for line in progress_of(failed.progress).log)
    ballast.unlink()
    done = pull(2)
    assert done.state == "succeeded", done
    assert [model.name for model in build_store(home).list()] == ["tiny"]


def test_a_model_whose_text_is_absent_is_refused_before_a_host_is_started_for_it(tmp_path: Path) -> None:
    plan = ModelPlan(
        alias="chat", release="chat-2", name="big", variant="", replicas=1, embedder=False, in_store=False,
        options=EngineOptions(kind="vllm", extra={"fleet": "chat"}),
    )  # fmt: skip
    home = Home(root=tmp_path / "home")
    store = build_store(home)
    with pytest.raises(UnknownModel, match="the store has no model 'big'"):
        open_model_files(store, home, plan)
    folder = make_tiny_model(tmp_path / "big", "llama")
    (folder / "model.safetensors").unlink()
    stored = store.pull(str(folder), text_only=True)
    files = open_model_files(store, home, plan)
    assert (files.format, files.weights, files.digest) == ("remote", "", stored.digest)
    assert (Path(files.directory) / "tokenizer.json").is_file()
