"""Operations in the queue: each a process of its own, one after the other; each end has a reason, whatever kills it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ashore.control.jobs import Lane, Runner
from ashore.control.jobs.operations.handler import Meter, OperationHandler
from ashore.control.jobs.operations.recording import EndsRecorder
from ashore.control.jobs.operations.sources import Reach, pulled_name
from ashore.core.clock import SystemClock
from ashore.core.errors import PermissionDenied, UnknownModel
from ashore.data.jobs import Job, JobQueue, NewJob, SqlJobs
from ashore.data.jobs.model import REFUSED, Again, Failed, Lease, Outcome
from ashore.data.jobs.operations import Request, progress_of, words_of
from ashore.kit.egress import parse_allow
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, events_after, open_scratch
from ashore.kit.store import pip_addresses

CHILD = """
import json, os, sys, time
from pathlib import Path
order = json.load(sys.stdin)
pipe = int(os.environ["ASHORE_CHILD_PROGRESS"])
say = lambda **said: os.write(pipe, json.dumps(said).encode() + b"\\n")
folder = Path(os.environ["FOLDER"])
name = order["asked"]["source"]
print("begun", name, os.sched_getscheduler(0), flush=True)
say(stage="weights", done=0, total=100, unit="bytes")
(folder / f"{name}.pid").write_text(str(os.getpid()))
while not (folder / f"{name}.go").exists():
    time.sleep(0.02)
say(stage="weights", done=100, total=100, unit="bytes")
if name == "bad":
    say(code="disk_full", message="the disk is full", hint="free some")
    sys.exit(3)
"""


class Desk:
    """A queue whose worker runs the child above."""

    def __init__(self, folder: Path, database: Database | None = None) -> None:
        self.folder = folder
        self.database = database or open_scratch()
        self.queue = JobQueue(SqlJobs(self.database), SystemClock())
        self.instead: list[Outcome] = []
        """What becomes of the next jobs, each once, before one may start."""
        handler = OperationHandler(
            self.queue,
            environment={"FOLDER": str(folder)},
            still_allowed=self.still_allowed,
            argv=(sys.executable, "-c", CHILD),
        )
        kinds = ("model pull", "optimize quantize")
        self.runner = Runner(
            self.queue,
            dict.fromkeys(kinds, handler),
            lanes=(Lane(kinds=kinds, slots=1),),
            owner="home",
            changes=self.database.changes,
        )

    async def still_allowed(self, lease: Lease) -> Outcome | None:
        return self.instead.pop(0) if self.instead else None

    def ask(self, name: str, kind: str = "model pull") -> str:
        asked = msgspec.Raw(msgspec.json.encode({"source": name}))
        request = Request(name=kind, asked=asked, action="model:pull", subject=f"model/{name}")
        payload = msgspec.json.encode(request)
        new = NewJob(
            job_id=f"op_{name}", kind=kind, tenant="acme", principal="ann#key=k", payload=payload, max_attempts=1
        )
        return self.queue.submit(new).job_id

    def go(self, name: str) -> None:
        (self.folder / f"{name}.go").touch()

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text() or 0)

    async def until(self, job_id: str, *states: str) -> Job:
        return await until(lambda: (job := self.queue.get(job_id, tenant=None)).state in states and job)


async def until(look: Callable[[], Any]) -> Any:
    async with asyncio.timeout(60):
        while not (found := look()):
            await asyncio.sleep(0.02)
        return found


def working(desk: Desk, work: Callable[[], Awaitable[None]]) -> None:
    """Do something while the worker of a desk runs."""

    async def main() -> None:
        running = asyncio.create_task(desk.runner.run())
        try:
            await work()
        finally:
            desk.runner.stop()
            await running

    asyncio.run(main())


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_operations_run_one_after_the_other_with_their_progress_and_log(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    async def work() -> None:
        first, second = desk.ask("one"), desk.ask("two", "optimize quantize")
        job = await until(lambda: (j := desk.queue.get(first, tenant=None)).progress and j)
        await until((tmp_path / "one.pid").exists)
        assert desk.queue.get(second, tenant=None).state == "queued", "one at a time"
        assert progress_of(job.progress).subject == "model/one"
        desk.go("one")
        job = await desk.until(first, "succeeded")
        progress = progress_of(job.progress)
        assert (progress.stage, progress.done, progress.total, progress.unit) == ("weights", 100, 100, "bytes")
        assert progress.log and progress.log[0].startswith("begun one")
        desk.go("two")
        await desk.until(second, "succeeded")

    working(desk, work)
    with desk.database.read() as connection:
        told = [(one.kind, one.about["job"]) for one in events_after(connection, 0, limit=20)]
    assert told == [
        ("job.queued", "op_one"), ("job.queued", "op_two"), ("job.running", "op_one"), ("job.succeeded", "op_one"),
        ("job.running", "op_two"), ("job.succeeded", "op_two"),
    ]  # fmt: skip


def test_a_killed_child_a_told_error_and_a_cancelled_job_end_each_with_a_reason(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    async def work() -> None:
        killed = desk.ask("killed")
        await until((tmp_path / "killed.pid").exists)
        await until(lambda: desk.pid("killed"))
        os.kill(desk.pid("killed"), signal.SIGKILL)
        job = await desk.until(killed, "failed")
        assert job.error_code == "killed" and "SIGKILL" in job.error_message
        bad = desk.ask("bad")
        desk.go("bad")
        job = await desk.until(bad, "failed")
        assert (job.error_code, job.error_message) == ("disk_full", "the disk is full; free some")
        cancelled = desk.ask("cancelled")
        await until((tmp_path / "cancelled.pid").exists)
        pid = await until(lambda: desk.pid("cancelled"))
        desk.queue.cancel(cancelled)
        assert (await desk.until(cancelled, "cancelled")).state == "cancelled"
        await until(lambda: gone(pid))

    working(desk, work)
    recorder = MemoryRecorder()
    ends = EndsRecorder(desk.database, desk.queue, recorder, home="")
    ends.record()
    assert recorder.acts == [], "what ended before the first look is not recorded"


def test_a_worker_that_died_leaves_an_operation_interrupted_and_its_end_is_recorded_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    recorder = MemoryRecorder()
    ends = EndsRecorder(desk.database, desk.queue, recorder, home="")
    ends.record()
    job_id = desk.ask("long")
    (lease,) = desk.queue.lease(kinds=("model pull",), limit=1, owner="home")  # and then this worker was killed
    assert lease.number == 1
    desk.queue.report(lease, '{"subject": "model/long"}')
    again = Desk(tmp_path, desk.database)

    async def work() -> None:
        job = await again.until(job_id, "interrupted")
        assert job.error_code == "interrupted" and f"ashore job again {job_id}" in job.error_message

    working(again, work)
    assert not (tmp_path / "long.pid").exists(), "it is not begun again by itself"
    while ends.record():
        pass
    ends.record()
    (act,) = recorder.acts
    assert (act.action, act.actor, act.tenant, act.resource, act.outcome) == (
        "model:pull", "ann", "acme", "model/long", "failed",
    )  # fmt: skip
    assert act.detail["ended"] == "interrupted" and act.detail["job"] == job_id


def test_an_operation_starts_only_while_its_submitter_may_and_waits_while_nobody_can_say(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    recorder = MemoryRecorder()
    ends = EndsRecorder(desk.database, desk.queue, recorder, home="")
    ends.record()
    away = Again(after_s=0.01, counted=False, code="not_ready", message="the API is not reachable")
    desk.instead = [away, away, Failed(code=REFUSED, message="the key k was revoked")]

    async def work() -> None:
        job = await desk.until(desk.ask("one"), "failed")
        assert (job.error_code, job.error_message, job.attempts) == (REFUSED, "the key k was revoked", 1), job
        desk.instead = [away]
        desk.go("two")
        await desk.until(desk.ask("two"), "succeeded")

    working(desk, work)
    assert not (tmp_path / "one.pid").exists(), "it never began"
    while ends.record():
        pass
    refused, done = recorder.acts
    assert (refused.outcome, refused.reason) == ("denied", "refused: the key k was revoked")
    assert (done.outcome, done.detail["ended"]) == ("done", "succeeded")


def test_a_meter_makes_rate_and_time_left_and_keeps_the_last_lines() -> None:
    now_s = 100.0
    meter = Meter("model/m", clock=lambda: now_s)
    meter.told(b'{"stage":"w","done":0,"total":1000,"unit":"bytes"}')
    now_s = 102.0
    meter.told(b'{"stage":"w","done":400,"total":1000,"unit":"bytes"}')
    meter.told(b"no json at all")
    assert (meter.progress.rate_per_s, meter.progress.left_s) == (200.0, 3.0)
    assert words_of(meter.progress) == "w: 400 B of 1000 B, 200 B/s, 3 s left"
    meter.wrote("grü".encode()[:-1])
    meter.wrote("ü\nred\x1b[31m\r".encode())
    meter.wrote(b"".join(b"line %d\n" % at for at in range(100)))
    assert len(meter.progress.log) == 40 and meter.progress.log[-1] == "line 99"


@pytest.fixture
def reach(tmp_path: Path) -> Reach:
    models = tmp_path / "models"
    (models / "inside").mkdir(parents=True)
    (models / "link").symlink_to("/etc")
    (tmp_path / "models-secret").mkdir()
    return Reach(
        folders=(str(models), "s3://bucket/data"),
        allow=parse_allow(["registry.corp@10.0.0.0/8", "hub.example.com"]),
        indexes=lambda: ["https://public.example/simple"],
    )


def test_a_package_may_be_pulled_where_every_index_of_pip_is_allowed(
    reach: Reach, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """pip goes to the mirrors that the operator set up, and nowhere else: those are what is checked."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "https://who:secret@registry.corp/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    reach = replace(reach, indexes=pip_addresses)
    assert reach.source("pypi:package") == "pypi:package", "the public index need not be allowed"
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://who:secret@more.example.com/simple")
    with pytest.raises(PermissionDenied) as refused:
        reach.source("pypi:package")
    assert "does not allow more.example.com:443" in refused.value.message and "secret" not in str(refused.value)


def test_a_source_is_a_hub_or_what_the_operator_allows(reach: Reach, tmp_path: Path) -> None:
    for said in ("smollm2", "hf:org/name", "ms:org/name@v1", "oci://registry.corp/name:v1", "s3://bucket/data/m"):
        assert reach.source(said) == said
    assert reach.source(str(tmp_path / "models" / "inside")) == str(tmp_path / "models" / "inside")


@pytest.mark.parametrize(
    "said",
    [
        "/etc", "/etc/passwd", "file:/etc", "~/x", "./models", "models/x", "{models}/link",
        "{models}/../models-secret", "{models}-secret", "s3://bucket/database", "s3://other/data",
        "s3://bucket/data/../x", "oci://evil.example.com/m", "oci://registry.corp@evil.example.com/m",
        "oci+http://169.254.169.254/m", "pypi:evil", "x.gguf",
    ],
)  # fmt: skip
def test_any_other_source_is_refused(reach: Reach, tmp_path: Path, said: str) -> None:
    with pytest.raises(PermissionDenied):
        reach.source(said.replace("{models}", str(tmp_path / "models")))


def test_a_name_of_the_catalogue_that_there_is_not_is_told_with_the_nearest(reach: Reach) -> None:
    with pytest.raises(UnknownModel):
        reach.source("smolm2")
    assert pulled_name("smollm2", None) == "smollm2" and pulled_name("/data/My-Model", None) == "my-model"
