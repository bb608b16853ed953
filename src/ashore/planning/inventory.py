"""What this machine gives, read from the kernel. The only part of planning that looks at the world."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from ashore.planning.model import Inventory


def read_inventory(root: Path = Path("/")) -> Inventory:
    """Return cores and memory, after affinity and cgroup limits. `root` stands for `/` in tests."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    quota = _cgroup_cores(root)
    return Inventory(
        cores=max(1, min(cores, quota) if quota else cores),
        memory_bytes=_memory_bytes(root),
        cpu=_cpu_name(root),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _cgroup_cores(root: Path) -> int:
    """Whole cores of the cgroup's quota; 0 where there is none."""
    quota, _, period = _read(root / "sys/fs/cgroup/cpu.max").strip().partition(" ")
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() else 0


def _memory_bytes(root: Path) -> int:
    available = 0
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    if not available:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limit = _read(root / "sys/fs/cgroup/memory.max").strip()
    if limit.isdigit():
        used = _read(root / "sys/fs/cgroup/memory.current").strip()
        inactive = _inactive_file_bytes(root)
        available = min(available, int(limit) - max(0, int(used or 0) - inactive))
    return max(0, available)


def _inactive_file_bytes(root: Path) -> int:
    """File pages that the kernel gives back when memory is asked for; they count as used in `memory.current`."""
    for line in _read(root / "sys/fs/cgroup/memory.stat").splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _cpu_name(root: Path) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
