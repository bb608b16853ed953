"""`[model.share]` under `ashore up`: hosts run where the plan says, a reload moves them, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from served import Served, host_of
from waiting import eventually

from ashore.kit.processes.shares import open_shares


def config(*, cpus: float, memory_bytes: int = 0) -> str:
    return f"""\
[[model]]
name = "fake:echo"
alias = "promised"
[model.share]
cpus = {cpus}
memory_bytes = {memory_bytes}
[[model]]
name = "fake:echo?delay_s=0.001"
alias = "other"
"""


def allowed(pid: int) -> set[int]:
    return os.sched_getaffinity(pid)


def ashore(house: Served, *words: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-m", "ashore.cli.main", *words)
    environment = {**os.environ, "ASHORE_HOME": str(house.home)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor cannot be divided")
def test_hosts_run_in_their_shares_and_follow_a_reload(served: Callable[..., Served]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    house = served(config=config(cpus=1, memory_bytes=1 << 30))
    promised, other = host_of(house, "promised-1"), host_of(house, "other-1")
    eventually(lambda: allowed(promised) == {cores[0]}, 5)
    assert allowed(other) == set(cores[1:])
    status = json.loads(ashore(house, "status", "--json").stdout)
    assert status["shares"] in ("cgroup1", "cgroup2", "affinity")
    assert status["shared"][0].startswith(f"promised: 1 processors, its own: {cores[0]}, at most 1073741824 bytes")
    (house.home / "ashore.toml").write_text(config(cpus=0.5))
    said = ashore(house, "reload")
    assert said.returncode == 0, said.stderr
    assert "= promised" in said.stdout and "share of 0.5 processors" in said.stdout and "applied" in said.stderr
    eventually(lambda: allowed(promised) == set(cores) == allowed(other), 1)
    assert host_of(house, "promised-1") == promised, "its host stays"
    assert house.stop() == 0
    left = [
        path for tree in Path("/sys/fs/cgroup").glob("*") for path in tree.glob(f"ashore-models-{house.process.pid}")
    ]
    assert left == []


def test_more_than_the_machine_has_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "ashore.toml").write_text(config(cpus=4000))
    words = [sys.executable, "-m", "ashore.cli.main", "up", "--dry-run", "--config", str(tmp_path / "ashore.toml")]
    environment = {**os.environ, "ASHORE_HOME": str(tmp_path / "home")}
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 2 and "promises 4000 processors in all; this machine has" in said.stderr


def test_a_host_that_takes_more_memory_than_its_share_ends_alone(tmp_path: Path) -> None:
    from ashore.kit.processes.shares import Share

    shares = open_shares()
    if not shares.kind.startswith("cgroup"):
        pytest.skip("memory is bounded by control groups alone")
    eats = "import time, sys; sys.stdin.readline(); x = [bytearray(1 << 20) for _ in range(400)]; print('ate')"
    eater, neighbour = (
        subprocess.Popen([sys.executable, "-c", eats], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    )
    try:
        shares.prepare("eater", Share(cpus=1, memory_bytes=64 << 20))
        shares.prepare("rest", Share(cpus=1))
        shares.enter("eater", eater.pid)
        shares.enter("rest", neighbour.pid)
        said = [one.communicate(b"go\n", timeout=60)[0] for one in (eater, neighbour)]
        assert (said[0], eater.returncode) == (b"", -9)
        assert (said[1].strip(), neighbour.returncode) == (b"ate", 0)
    finally:
        for one in (eater, neighbour):
            one.kill()
            one.wait()
        shares.close()
