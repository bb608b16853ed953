"""Resources that this process may still use: the minimum of the machine and of every control group's limit.

A limit may be set on any group above the one of this process (a slice of systemd, a pod, a container in a container),
in the one tree of version 2 or in the trees of version 1, and on machines that have both, in either. A process that
checks only the innermost group, or only one version, overestimates its resources.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path("/")
_GROUPS: Final = "sys/fs/cgroup"
_MEMORY: Final = (
    ("memory.max", "memory.current", "inactive_file", "active_file"),
    ("memory.high", "memory.current", "inactive_file", "active_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"),
)
"""Limit, use, and the file pages that count as used and make room when it is needed; version 2, then version 1. Above
`memory.high` the kernel slows a group down so much that it is a limit, too."""


def free_memory_bytes(root: Path = ROOT) -> int:
    """Return the memory that this process may still take without swapping; `root` stands for `/` in tests."""
    free = _machine_bytes(root)
    for group in control_groups(root, "memory"):
        for limit_name, used_name, *cached_names in _MEMORY:
            limit, used = _number(group / limit_name), _number(group / used_name)
            if limit is not None and used is not None:
                cached = _numbers(group / "memory.stat")
                free = min(free, limit - used + sum(cached.get(name, 0) for name in cached_names))
    return max(0, free)


def resident_bytes_of(pid: int) -> int:
    """Return the resident memory of a process and its children; 0 if it has ended."""
    try:
        num_bytes = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        tasks = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return 0
    return num_bytes + sum(resident_bytes_of(int(child)) for children in tasks for child in children)


def allowed_memory_bytes(root: Path = ROOT) -> int:
    """Return the total memory that this process may have, used or not."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_number(group / names[0]) for group in control_groups(root, "memory") for names in _MEMORY)
    return min([whole, *(limit for limit in limits if limit is not None)])


def allowed_cores(root: Path = ROOT) -> int:
    """Return the processors that this process may use, at least 1, from its affinity and every CPU quota.

    Rounded, halves up: with a quota of 1.5 two threads do more work than one; with 1.2 they would mostly wait for the
    next period.
    """
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS
        cores = float(os.cpu_count() or 1)
    for group in control_groups(root, "cpu"):
        quota, _, period = _text(group / "cpu.max").strip().partition(" ")
        for part, whole in (
            (_whole(quota), _whole(period)),
            (_number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")),
        ):
            if part is not None and whole:
                cores = min(cores, part / whole)
    return max(1, int(cores + 0.5))


def control_groups(root: Path, controller: str, *, process: str = "self") -> Iterator[Path]:
    """Yield the folders of a process's group and its ancestors, in each tree that may limit `controller`.

    In a container the trees begin at its own group, whatever the path is; some folders may be missing.
    """
    lines = [line.split(":", 2) for line in _text(root / "proc" / process / "cgroup").splitlines()]
    places = [(words[1], words[2]) for words in lines if len(words) == 3] or [("", "/")]
    for names, path in places:
        if names and controller not in names.split(","):
            continue
        trees = (names, controller) if names else ("", "unified")
        below = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for tree in dict.fromkeys(trees):
            for depth in range(len(below), -1, -1):
                yield (root / _GROUPS / tree).joinpath(*below[:depth])


def _machine_bytes(root: Path) -> int:
    available = _numbers(root / "proc/meminfo").get("MemAvailable:")
    if available is not None:
        return available << 10
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // 2


def _numbers(path: Path) -> dict[str, int]:
    """Return the first number of each line by its first word."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _number(path: Path) -> int | None:
    return _whole(_text(path).strip())


def _whole(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
