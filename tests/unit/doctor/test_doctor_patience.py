"""What is late is left and named; a write that hangs holds nobody up."""

from __future__ import annotations

import os
import threading
import time
import zlib
from pathlib import Path

import pytest
from waiting import eventually

from ashore.bootstrap.doctor import sources_of
from ashore.doctor.patience import Lanes, Step, Watch
from ashore.doctor.probes.disks import PROBE, Writes
from ashore.doctor.readings import Configuration
from ashore.doctor.survey import Surveying
from ashore.doctor.topology import AccessPart, AuditPart, AuditSectionPart, LinkPart, ListenPart, TopologyPart
from ashore.settings import Home, Settings


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
        audit=AuditPart(section=AuditSectionPart(checkpoint_s=1.0)),
    )  # fmt: skip
    sources = sources_of(Settings(home=home), lambda: Configuration(), lambda served: ())
    found = Surveying(sources, {"pid": 1}, topology, frozenset(), 0.0).end(time.monotonic() + 60)
    assert "releases" in found.missing
    assert not home.root.exists()
