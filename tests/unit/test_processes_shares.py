"""Shares of the machine: who runs where, and what is written into the kernel's files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.kit.processes.shares import Affinity, Cgroup1, Cgroup2, Share, Shares, divide, open_shares


def tree2(root: Path, *, controllers: str = "cpuset cpu memory hugetlb") -> Path:
    """Make a delegated group as systemd does, in files: `/sys/fs/cgroup/system.slice/ashore.service`."""
    own = root / "sys/fs/cgroup/system.slice/ashore.service"
    own.mkdir(parents=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text(controllers)
    (own / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.procs").write_text("17\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/system.slice/ashore.service\n")
    return own


def tree1(root: Path) -> dict[str, Path]:
    """Make the trees of version 1 in files."""
    trees = {}
    for name in ("cpu,cpuacct", "cpuset", "memory"):
        trees[name] = root / "sys/fs/cgroup" / name
        trees[name].mkdir(parents=True)
    (trees["cpuset"] / "cpuset.cpus").write_text("0-7\n")
    (trees["cpuset"] / "cpuset.mems").write_text("0\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("3:cpuset:/\n2:cpu,cpuacct:/\n1:memory:/\n0::/\n")
    return trees


def test_version_2_moves_the_supervisor_into_a_leaf_and_writes_weights_sets_and_limits(tmp_path: Path) -> None:
    own = tree2(tmp_path)
    shares = open_shares(tmp_path)
    assert shares.kind == "cgroup2"
    assert (own / "ashore-supervisor/cgroup.procs").read_text() == "17"
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +cpuset +memory"
    shares.prepare("chat", Share(cpus=2, cores=(0, 1), memory_bytes=1 << 30))
    group = own / "ashore-models/chat"
    files = {name: (group / name).read_text() for name in ("cpu.weight", "cpuset.cpus", "memory.max")}
    assert files == {"cpu.weight": "200", "cpuset.cpus": "0,1", "memory.max": str(1 << 30)}
    shares.prepare("chat", Share(cpus=0.5))
    files = {name: (group / name).read_text() for name in ("cpu.weight", "cpuset.cpus", "memory.max")}
    assert files == {"cpu.weight": "50", "cpuset.cpus": "\n", "memory.max": "max"}
    shares.enter("chat", 4711)
    assert (group / "cgroup.procs").read_text() == "4711"


def test_version_1_writes_the_same_into_its_trees(tmp_path: Path) -> None:
    trees = tree1(tmp_path)
    shares = open_shares(tmp_path)
    assert shares.kind == "cgroup1"
    shares.prepare("chat", Share(cpus=1.5, cores=(3,), memory_bytes=5000))
    base = f"ashore-models-{os.getpid()}"
    assert (trees["cpu,cpuacct"] / base / "chat/cpu.shares").read_text() == "1536"
    assert (trees["cpuset"] / base / "chat/cpuset.cpus").read_text() == "3"
    assert (trees["cpuset"] / base / "chat/cpuset.mems").read_text() == "0"
    assert (trees["memory"] / base / "chat/memory.limit_in_bytes").read_text() == "5000"
    shares.prepare("rest", Share(cpus=1))
    assert (trees["cpuset"] / base / "rest/cpuset.cpus").read_text() == "0-7"
    assert (trees["memory"] / base / "rest/memory.limit_in_bytes").read_text() == "-1"


def test_without_groups_of_our_own_there_is_affinity(tmp_path: Path) -> None:
    tree2(tmp_path, controllers="hugetlb")
    shares = open_shares(tmp_path)
    assert shares.kind == "affinity"
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        one = min(os.sched_getaffinity(0))
        shares.prepare("chat", Share(cpus=1, cores=(one,)))
        shares.enter("chat", child.pid)
        assert os.sched_getaffinity(child.pid) == {one}
        shares.prepare("chat", Share(cpus=0.5))
        assert os.sched_getaffinity(child.pid) == os.sched_getaffinity(0)
    finally:
        child.kill()
        child.wait()
    shares.enter("chat", child.pid)  # it is gone, and that is no error


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0]), max_size=5),
    st.integers(1, 12),
)
def test_whole_processors_are_nobody_elses(asked: dict[str, float], num: int) -> None:
    if sum(asked.values()) > num:
        return
    found = divide({name: Share(cpus=cpus) for name, cpus in asked.items()}, range(num), rest="rest")
    own = {name: share.cores for name, share in found.items() if name in asked and asked[name] == int(asked[name])}
    assert all(len(cores) == asked[name] for name, cores in own.items())
    taken = [core for cores in own.values() for core in cores]
    assert len(taken) == len(set(taken))
    for name, share in found.items():
        if name not in own and len(taken) < num:
            assert not set(share.cores) & set(taken) and (share.cores or not own)
    if sum(asked.values()) < num:
        weights = sum(share.cpus for share in found.values())
        assert abs(weights - num) < 1e-6, "what is promised is what the weights give"


@pytest.fixture
def real() -> Iterator[Shares]:
    try:
        shares: Shares = Cgroup1(Path("/"))
    except OSError:
        pytest.skip("no control groups of version 1 that this user may write")
    yield shares
    shares.close()


SPIN = "import time\nwhile True: pass"


def used_s(pid: int) -> float:
    return sum(psutil.Process(pid).cpu_times()[:2])


def test_the_kernel_keeps_weights_under_a_saturating_neighbour(real: Shares) -> None:
    """Two processes on one processor, three to one; and one that wants all the memory is the only one that dies."""
    core = (min(os.sched_getaffinity(0)),)
    real.prepare("most", Share(cpus=0.75, cores=core))
    real.prepare("least", Share(cpus=0.25, cores=core))
    children = {name: subprocess.Popen([sys.executable, "-c", SPIN]) for name in ("most", "least")}
    try:
        for name, child in children.items():
            real.enter(name, child.pid)
        time.sleep(0.3)
        before = {name: used_s(child.pid) for name, child in children.items()}
        time.sleep(2.0)
        spent = {name: used_s(child.pid) - before[name] for name, child in children.items()}
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    assert spent["most"] / sum(spent.values()) >= 0.75 * 0.9
    for name in children:
        real.release(name)


def test_what_these_classes_are() -> None:
    assert {one.kind for one in (Affinity, Cgroup1, Cgroup2)} == {"affinity", "cgroup1", "cgroup2"}
