"""What is late is left and named; a write that hangs holds nobody up."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
import zlib
from pathlib import Path

import pytest
from waiting import eventually

from ashore.cli.bootstrap.doctor import open_doctor, sources_of
from ashore.control.doctor.model import Diagnosis
from ashore.control.doctor.patience import Lanes, Step, Watch
from ashore.control.doctor.probes.disks import PROBE, Writes
from ashore.control.doctor.probes.logs import read_logs
from ashore.control.doctor.readings import Configuration
from ashore.control.doctor.room import OwnLook
from ashore.control.doctor.survey import Surveying
from ashore.control.doctor.topology import AccessPart, AuditPart, AuditSectionPart, LinkPart, ListenPart, TopologyPart
from ashore.core.errors import EnvironmentFault
from ashore.kit.settings import Home, Settings


def test_what_is_late_is_named_and_what_comes_after_it_in_its_lane() -> None:
    opened, told = threading.Event(), list[str]()
    lane = [
        Step(names=("state",), work=lambda: told.append("state")),
        Step(names=("audit", "log"), work=lambda: bool(opened.wait(60))),
        Step(names=("access",), work=lambda: told.append("access")),
    ]
    lanes = Lanes(lane, [Step(names=("gpus",), work=lambda: told.append("gpus"))])
    eventually(lambda: sorted(told) == ["gpus", "state"])
    began_s = time.monotonic()
    assert set(lanes.end(began_s + 0.05)) == {"audit", "log", "access"}
    assert time.monotonic() - began_s < 30
    opened.set()
    assert lanes.end(time.monotonic() + 60) == ()
    assert told[-1] == "access"


def test_what_goes_wrong_in_a_step_is_not_swallowed() -> None:
    lanes = Lanes([Step(names=("state",), work=lambda: [][0])])
    with pytest.raises(IndexError):
        lanes.end(time.monotonic() + 60)


def test_a_small_write_takes_some_time_and_leaves_nothing(tmp_path: Path) -> None:
    missing = dict[str, str]()
    took_ms, error = Writes(tmp_path).end(time.monotonic() + 60, missing)
    assert took_ms > 0 and not error and not missing
    assert not list(tmp_path.iterdir())


def test_a_write_that_hangs_counts_with_the_time_that_it_has_waited(tmp_path: Path) -> None:
    """A pipe that nobody reads is not opened for writing, as a file on a disk that does not answer."""
    os.mkfifo(tmp_path / PROBE)
    writes, missing = Writes(tmp_path), dict[str, str]()
    time.sleep(0.5)  # what is measured is time
    took_ms, error = writes.end(time.monotonic() + 1, missing)
    assert took_ms > 500 and not error and not missing
    reader = os.open(tmp_path / PROBE, os.O_RDONLY)  # the child goes on, and tidies up
    eventually(lambda: not (tmp_path / PROBE).exists())
    os.close(reader)


def test_time_without_a_processor_is_no_time_of_what_is_measured() -> None:
    """Several threads of one processor: each works a while, and waits for the others longer."""
    cores, took, wall = os.sched_getaffinity(0), list[float](), list[float]()

    def work() -> None:
        os.sched_setaffinity(0, {min(cores)})
        watch, begun_s = Watch(), time.monotonic()
        zlib.compress(os.urandom(1 << 24))  # without the lock of the interpreter
        took.append(watch.took_s)
        wall.append(time.monotonic() - begun_s)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(took) < 0.6 * sum(wall)


def test_a_home_that_is_not_there_is_no_slow_disk(tmp_path: Path) -> None:
    missing = dict[str, str]()
    assert Writes(tmp_path / "away").end(time.monotonic() + 60, missing) == (0.0, "")
    assert set(missing) == {"disk.fsync_ms", "disk.write_error"}


def test_a_home_that_is_deleted_while_it_is_looked_at_is_not_made_again(tmp_path: Path) -> None:
    home = Home(root=tmp_path / "home")
    topology = TopologyPart(
        http=ListenPart(), redis=LinkPart(), state=LinkPart(), access=AccessPart(),
        audit=AuditPart(section=AuditSectionPart()),
    )  # fmt: skip
    sources = sources_of(Settings(home=home), lambda: Configuration(), lambda served: ())
    found = Surveying(sources, {"pid": 1}, topology, 0.0).end(time.monotonic() + 60)
    assert "releases" in found.missing
    assert not home.root.exists()


def test_a_small_write_goes_through_no_link(tmp_path: Path) -> None:
    """Who owns a home that root looks at would otherwise have any file overwritten."""
    kept, home = tmp_path / "shadow", tmp_path / "home"
    kept.write_text("root")
    home.mkdir()
    (home / PROBE).symlink_to(kept)
    assert Writes(home).end(time.monotonic() + 60, {}) == (0.0, os.strerror(errno.ELOOP))
    assert kept.read_text() == "root"


def test_a_folder_on_a_server_that_is_gone_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, dead, asked = threading.Event(), str(tmp_path / "home" / "store"), os.statvfs

    def statvfs(path: object) -> os.statvfs_result:
        if str(path) == dead:
            over.wait(60)
        return asked(path)  # type: ignore[arg-type]

    (tmp_path / "home" / "store").mkdir(parents=True)
    monkeypatch.setattr(os, "statvfs", statvfs)
    settings = Settings(home=Home(root=tmp_path / "home"))
    doctor = open_doctor(settings, lambda: Configuration(), lambda served: ())
    try:
        readings, _, _ = doctor.examine(0)
    finally:
        over.set()
    assert "home" in {one.name for one in readings.places} and dead not in {one.path for one in readings.places}
    assert "store did not answer" in readings.missing["backup"]


def test_a_pipe_among_the_logs_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "api.log")
    (tmp_path / "host.log").write_text("Traceback (most recent call last)\n")
    found = read_logs(tmp_path, tmp_path / "runs", since_s=0.0, kernel=False)
    assert found.tracebacks == {"host.log": 1}


def test_a_path_that_a_stranger_asks_the_edge_for_is_no_fault_of_an_engine(tmp_path: Path) -> None:
    (tmp_path / "edge.log").write_text("2026-12-01T12:00:00Z GET /MemoryError HTTP/1.1 401\n")
    (tmp_path / "host-m-0.log").write_text("MemoryError\n")
    found = read_logs(tmp_path, tmp_path / "runs", since_s=0.0, kernel=False)
    assert found.out_of_memory == ("host-m-0: MemoryError",)


def test_who_waited_for_a_look_that_failed_does_not_look_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def fails(self: OwnLook) -> Diagnosis:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        raise EnvironmentFault("the doctor did not end")

    monkeypatch.setattr(OwnLook, "_look", fails)

    async def ask() -> list[object]:
        look = OwnLook(tmp_path)
        return await asyncio.gather(*(look(fresh=False) for _ in range(20)), return_exceptions=True)

    assert all(isinstance(one, EnvironmentFault) for one in asyncio.run(ask())) and looks == 1
