"""What a process may use of the machine, by made-up trees of control groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ashore.data.engines import read_inventory
from ashore.kit.processes import allowed_cores, allowed_memory_bytes, free_memory_bytes

GIB = 1 << 30
UNLIMITED_V1 = str((1 << 63) - 4096)
Make = Callable[[str, Mapping[str, str]], Path]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes a machine of 16 processors and 8 GiB with these groups; files by their path."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)

    def make(own_groups: str, files: Mapping[str, str]) -> Path:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {8 * GIB >> 10} kB\n")
        (tmp_path / "proc/self/cgroup").write_text(own_groups)
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return make


def memory(limit: int, used: int, where: str = "") -> dict[str, str]:
    return {f"{where}memory.max": str(limit), f"{where}memory.current": str(used)}


def test_a_machine_without_groups_gives_what_it_has(machine: Make) -> None:
    root = machine("", {})
    assert (free_memory_bytes(root), allowed_cores(root)) == (8 * GIB, 16)
    (root / "proc/meminfo").write_text("")
    assert free_memory_bytes(root) > 0, "half of the physical memory, where the kernel does not tell"


@pytest.mark.parametrize("place", ["", "system.slice/", "system.slice/ashore.service/"])
def test_a_limit_counts_on_the_own_group_and_on_every_one_above(machine: Make, place: str) -> None:
    files = {
        "system.slice/ashore.service/memory.max": "max",
        "system.slice/ashore.service/memory.current": "1",
        "system.slice/ashore.service/cpu.max": "max 100000",
        **memory(2 * GIB, GIB, place),
        f"{place}cpu.max": "250000 100000",
        f"{place}memory.stat": f"anon 7\ninactive_file {GIB // 4}\nactive_file {GIB // 4}",
    }
    root = machine("0::/system.slice/ashore.service\n", files)
    assert free_memory_bytes(root) == GIB + GIB // 2
    assert allowed_cores(root) == 3
    inventory = read_inventory(root)
    assert (inventory.memory_bytes, inventory.cores) == (GIB + GIB // 2, 3)


def test_the_least_of_several_limits_counts(machine: Make) -> None:
    """What a neighbour in the same slice took is gone, though the own group may take more."""
    files = {
        **memory(4 * GIB, 4 * GIB - 4096, "pod/"),
        **memory(3 * GIB, 0, "pod/one/"),
        "pod/cpu.max": "50000 100000",
        "pod/one/cpu.max": "400000 100000",
    }
    root = machine("0::/pod/one\n", files)
    assert free_memory_bytes(root) == 4096
    assert allowed_cores(root) == 1, "half a processor is planned as one"


@pytest.mark.parametrize(("quota", "cores"), [(150_000, 2), (149_000, 1), (20_000, 1), (240_000, 2)])
def test_part_of_a_processor_counts_from_a_half_on(machine: Make, quota: int, cores: int) -> None:
    assert allowed_cores(machine("0::/pod\n", {"pod/cpu.max": f"{quota} 100000"})) == cores


def test_a_group_that_is_over_its_limit_leaves_nothing(machine: Make) -> None:
    assert free_memory_bytes(machine("0::/\n", memory(GIB, 2 * GIB))) == 0


def test_the_mark_at_which_the_kernel_slows_a_group_down_is_a_limit(machine: Make) -> None:
    root = machine("0::/a\n", {"a/memory.max": "max", "a/memory.high": str(GIB), "a/memory.current": "0"})
    assert free_memory_bytes(root) == GIB


@pytest.mark.parametrize("tree", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("place", ["", "/docker/abc"])
def test_version_1_has_a_tree_for_each_kind_of_limit(machine: Make, tree: str, place: str) -> None:
    files = {
        "memory/docker/abc/memory.limit_in_bytes": UNLIMITED_V1,
        "memory/docker/abc/memory.usage_in_bytes": str(GIB),
        f"memory{place}/memory.limit_in_bytes": str(2 * GIB),
        f"memory{place}/memory.usage_in_bytes": str(GIB),
        f"memory{place}/memory.stat": f"inactive_file 9\ntotal_inactive_file {GIB // 4}",
        f"{tree}/docker/abc/cpu.cfs_quota_us": "-1",
        f"{tree}/docker/abc/cpu.cfs_period_us": "100000",
        f"{tree}{place}/cpu.cfs_quota_us": "390000",
        f"{tree}{place}/cpu.cfs_period_us": "100000",
    }
    root = machine("12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n0::/docker/abc\n", files)
    assert free_memory_bytes(root) == GIB + GIB // 4
    assert allowed_cores(root) == 4


def test_a_container_that_sees_its_own_group_as_the_root_counts_it(machine: Make) -> None:
    """The path is that of the host, and none of it is there."""
    assert free_memory_bytes(machine("0::/kubepods/pod7/abc\n", memory(GIB, 0))) == GIB


def test_no_path_leads_out_of_the_tree(machine: Make) -> None:
    root = machine("0::/../../neighbour\n", {})
    (root / "sys/neighbour").mkdir(parents=True)
    for name, text in memory(1, 0).items():
        (root / "sys/neighbour" / name).write_text(text)
    assert free_memory_bytes(root) == 8 * GIB


def test_the_real_machine_is_read() -> None:
    assert free_memory_bytes() > 0 and allowed_cores() >= 1


def test_what_it_may_have_in_all_is_the_least_limit_whatever_is_used(machine: Make) -> None:
    files = memory(3 << 20, 1 << 20, "a/") | memory(2 << 20, 2 << 20, "a/b/")
    assert allowed_memory_bytes(machine("0::/a/b\n", files)) == 2 << 20
    assert allowed_memory_bytes(Path("/nowhere")) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
