"""Processors, memory, network and clock, as the kernel counts them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ashore.control.doctor.look import Between
from ashore.control.doctor.readings import Cpu, Group, Memory, Network
from ashore.kit.processes import allowed_cores, control_groups

_CPU_COLUMNS: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GROUP_FILES: Final = "sys/fs/cgroup"
HUGE_LIMIT: Final = 1 << 60
"""A limit of version 1 above this means none."""


def text_of(path: Path) -> str:
    """Return the text of a file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def whole_of(path: Path, default: int = 0) -> int:
    """Return the number that a file holds."""
    text = text_of(path).partition(" ")[0]
    return int(text) if text.lstrip("-").isdigit() else default


def rows_of(path: Path) -> dict[str, int]:
    """Return the first number of each line, by its first word."""
    rows = (line.split() for line in text_of(path).splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def count(root: Path) -> Iterator[tuple[str, float]]:
    """Yield what the kernel counts, by name."""
    for line in text_of(root / "proc/stat").splitlines():
        if line.startswith("cpu "):
            yield from zip((f"cpu.{name}" for name in _CPU_COLUMNS), map(float, line.split()[1:9]), strict=False)
    yield "cpu.doctor", time.process_time() * os.sysconf("SC_CLK_TCK")
    counted = rows_of(root / "proc/vmstat")
    if "oom_kill" in counted:
        yield "vm.oom_kill", counted["oom_kill"]
    lines = text_of(root / "proc/net/netstat").splitlines()
    for head, row in zip(lines[::2], lines[1::2], strict=False):
        found = dict(zip(head.split()[1:], row.split()[1:], strict=False))
        if "ListenOverflows" in found:
            yield "net.ListenOverflows", float(found["ListenOverflows"])


def read_cpu(root: Path, between: Between, stranger: tuple[str, int, float, float], missing: dict[str, str]) -> Cpu:
    """Return the processors. `stranger`: name, process and processors of the busiest program of others. What the doctor
    itself uses between the looks counts as idle."""
    all_s = sum(between.grew(f"cpu.{name}") for name in _CPU_COLUMNS)

    def share(name: str) -> float:
        return between.grew(f"cpu.{name}") / all_s if all_s else 0.0

    if not all_s:
        missing["cpu.stranger_cores"] = "needs two looks"
    information = text_of(root / "proc/cpuinfo")
    fields = [line.partition(":") for line in information.splitlines()]

    def values(name: str) -> list[str]:
        return [value.strip() for key, _, value in fields if key.strip() == name]

    online = len(values("processor")) or os.cpu_count() or 1
    return Cpu(
        cores=allowed_cores(root),
        cores_online=online,
        flags=tuple(next(iter(values("flags") or values("Features")), "").split()),
        idle_share=min(1.0, share("idle") + share("iowait") + share("doctor")) if all_s else 1.0,
        stranger=stranger[0],
        stranger_pid=stranger[1],
        stranger_cores=stranger[2],
        strangers_cores=stranger[3],
        autogroups=whole_of(root / "proc/sys/kernel/sched_autogroup_enabled") == 1,
    )


def read_memory(root: Path, between: Between) -> Memory:
    """Return the memory of the machine."""
    rows = rows_of(root / "proc/meminfo")

    def kib(name: str) -> int:
        return rows.get(name, 0) << 10

    return Memory(
        total_bytes=kib("MemTotal"),
        available_bytes=kib("MemAvailable"),
        oom_kills=int(between.grew("vm.oom_kill")),
    )


def group_paths(root: Path, process: str) -> Mapping[str, Path]:
    """Return the groups that bound a process, by path below the mount; of the folders that are there."""
    found: dict[str, Path] = {}
    for controller in ("cpu", "memory", "pids", "blkio"):
        for folder in control_groups(root, controller, process=process):
            if folder.is_dir():
                found[str(folder.relative_to(root / _GROUP_FILES))] = folder
    return found


def count_groups(root: Path, process: str) -> Iterator[tuple[str, float]]:
    """Yield what control groups count."""
    for name, folder in group_paths(root, process).items():
        rows = rows_of(folder / "cpu.stat")
        throttled_s = rows.get("throttled_usec", 0) / 1e6 or rows.get("throttled_time", 0) / 1e9
        yield f"group.{name}.periods", rows.get("nr_periods", 0)
        yield f"group.{name}.throttled", rows.get("nr_throttled", 0)
        yield f"group.{name}.throttled_s", throttled_s
        events = rows_of(folder / "memory.events") or rows_of(folder / "memory.oom_control")
        yield f"group.{name}.oom_kill", events.get("oom_kill", 0)
        yield (
            f"group.{name}.squeezed",
            events.get("high", 0) + events.get("max", 0) + whole_of(folder / "memory.failcnt"),
        )


def read_groups(root: Path, process: str, between: Between) -> tuple[Group, ...]:
    """Return the groups above a process that limit anything."""
    found = []
    for name, folder in group_paths(root, process).items():
        quota, _, period = text_of(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = int(quota) / int(period)
        else:
            cores = max(0, whole_of(folder / "cpu.cfs_quota_us")) / (whole_of(folder / "cpu.cfs_period_us") or 1)
        limit = whole_of(folder / "memory.max") or whole_of(folder / "memory.limit_in_bytes")
        limit = limit if limit < HUGE_LIMIT else 0
        used = whole_of(folder / "memory.current") or whole_of(folder / "memory.usage_in_bytes")
        stat = rows_of(folder / "memory.stat")
        files = stat.get("total_inactive_file", stat.get("inactive_file", 0)) + stat.get(
            "total_active_file", stat.get("active_file", 0)
        )
        most = whole_of(folder / "pids.max")
        num_bytes, operations = _disk_limits(folder)
        key, periods = f"group.{name}", between.grew(f"group.{name}.periods")
        if cores or limit or most or num_bytes or operations:
            found.append(
                Group(
                    path=f"/{name}",
                    quota_cores=cores,
                    throttled_share=between.grew(f"{key}.throttled") / periods if periods >= 5 else 0.0,
                    throttled_s_per_s=between.per_s(f"{key}.throttled_s"),
                    memory_limit_bytes=limit,
                    memory_used_bytes=max(0, used - files),
                    oom_kills=int(between.grew(f"{key}.oom_kill")),
                    squeezed=int(between.grew(f"{key}.squeezed")),
                    processes=whole_of(folder / "pids.current"),
                    processes_most=most,
                    disk_bytes_per_s=num_bytes,
                    disk_operations_per_s=operations,
                )
            )
    return tuple(found)


def _disk_limits(folder: Path) -> tuple[float, float]:
    """Return the least bytes and operations a second that a control group lets its processes read or write; 0: any."""
    found: dict[str, list[float]] = {"bps": [], "iops": []}
    for kind, limits in found.items():
        for way in ("read", "write"):
            lines = text_of(folder / f"blkio.throttle.{way}_{kind}_device").splitlines()
            limits += [float(line.split()[1]) for line in lines if len(line.split()) == 2]
    for word in text_of(folder / "io.max").split():
        name, _, value = word.partition("=")
        if value.isdigit():
            found[name[1:]].append(float(value))
    return min(found["bps"], default=0.0), min(found["iops"], default=0.0)


def read_network(root: Path, between: Between) -> Network:
    """Return the counters of the network stack."""
    full: dict[int, int] = {}
    for name in between.after.numbers:
        if name.startswith("listener.") and (grew := int(between.grew(name))):
            port = int(name.split(".")[1])
            full[port] = full.get(port, 0) + grew
    return Network(
        overflows=sum(full.values()) if between.now("listeners.told") else int(between.grew("net.ListenOverflows")),
        full_ports=tuple(sorted(full)),
        backlog_most=whole_of(root / "proc/sys/net/core/somaxconn", 4096),
    )
