"""Figures of processes: by what they are called, summed while they live, and gone with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ashore.control.server.room import METRICS, Processes, name_of
from ashore.kit.metrics import Metrics
from ashore.kit.processes import BY_MODULE


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("python -m ashore.data.worker --run /h/run --index 3 --log-level info", "api-3"),
        ("python -m ashore.data.engines.host --socket /h/run/host-7.sock --launch x", "host-7"),
        ("python -m ashore.control.jobs.worker --launch /h/run/jobs.json", "jobs"),
        ("/v/bin/envoy -c x", "envoy"),
        ("/v/bin/valkey-server *:0", "valkey"),
        ("python -m pytest", ""),
        ("", ""),
    ],
)
def test_a_process_is_called_by_what_it_does(line: str, name: str) -> None:
    assert name_of(line.split()) == name


@pytest.mark.parametrize("module", [module for module, _ in BY_MODULE])
def test_every_process_that_the_doctor_knows_has_figures(module: str) -> None:
    assert name_of(("python", "-m", module))


class Machine:
    """A /proc with a supervisor, 1, and its children."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "1" / "task" / "1").mkdir(parents=True)
        self.metrics = Metrics(METRICS)
        self.processes = Processes(self.metrics, 1, root)

    def put(self, pid: int, line: str, *, cpu_s: float, pages: int) -> None:
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        ticks = int(cpu_s * os.sysconf("SC_CLK_TCK"))
        (folder / "stat").write_text(f"{pid} (a) b) S {' 0' * 10} {ticks} 0 0")
        (folder / "statm").write_text(f"9 {pages} 1")
        (folder / "cmdline").write_text("\0".join(line.split()) + "\0")

    def measure(self, *children: int) -> None:
        (self.root / "1" / "task" / "1" / "children").write_text(" ".join(map(str, children)))
        self.processes.measure()

    def shown(self, name: str) -> tuple[float, float]:
        memory = self.metrics.value("ashore_process_memory_bytes", name) / os.sysconf("SC_PAGE_SIZE")
        return memory, self.metrics.value("ashore_process_cpu_seconds", name)


def test_time_goes_on_over_a_restart_and_memory_is_that_of_who_lives(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.put(1, "python -m ashore.cli.main up", cpu_s=1, pages=5)
    machine.put(2, "python -m ashore.data.worker --index 0", cpu_s=2, pages=50)
    machine.put(3, "sleep 9", cpu_s=2, pages=50)
    machine.measure(2, 3, 99)
    assert machine.shown("supervisor") == (5, 1) and machine.shown("api-0") == (50, 2)
    machine.put(2, "python -m ashore.data.worker --index 0", cpu_s=3, pages=60)
    machine.measure(2)
    assert machine.shown("api-0") == (60, 3)
    machine.put(4, "python -m ashore.data.worker --index 0", cpu_s=0.5, pages=40)
    machine.measure(4)
    assert machine.shown("api-0") == (40, 3.5), "another process of the same name"
    machine.measure()
    assert machine.shown("api-0") == (0, 3.5)
    assert [labels for labels, _ in machine.metrics.values_of("ashore_process_memory_bytes")] == [("supervisor",)]


def test_this_process_is_read_as_the_system_shows_it() -> None:
    metrics = Metrics(METRICS)
    Processes(metrics, os.getpid()).measure()
    assert metrics.value("ashore_process_memory_bytes", "supervisor") > 1 << 20
    assert metrics.value("ashore_process_cpu_seconds", "supervisor") > 0
