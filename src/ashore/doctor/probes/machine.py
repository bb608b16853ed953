"""Processors, memory, network and clock, as the kernel counts them."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ashore.doctor.look import Between
from ashore.doctor.probes.files import rows_of, text_of, whole_of
from ashore.doctor.readings import Clock, Cpu, Group, Memory, Network
from ashore.processes import allowed_cores, control_groups

_CPU_COLUMNS: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GROUP_FILES: Final = "sys/fs/cgroup"
_UNSYNC: Final = 0x0040
"""STA_UNSYNC of adjtimex(2)."""
HUGE_LIMIT: Final = 1 << 60
"""A limit of version 1 above this means none."""


def count(root: Path) -> Iterator[tuple[str, float]]:
    """Yield what the kernel counts, by name."""
    for line in text_of(root / "proc/stat").splitlines():
        if line.startswith("cpu "):
            yield from zip((f"cpu.{name}" for name in _CPU_COLUMNS), map(float, line.split()[1:9]), strict=False)
    yield "cpu.doctor", time.process_time() * os.sysconf("SC_CLK_TCK")
    counted = rows_of(root / "proc/vmstat")
    for name in ("oom_kill", "pswpin", "numa_miss", "numa_hit"):
        if name in counted:
            yield f"vm.{name}", counted[name]
    for kind in ("cpu", "memory", "io"):
        for line in text_of(root / "proc/pressure" / kind).splitlines():
            word = line.partition(" ")[0]
            yield f"pressure.{kind}.{word}", float(line.rpartition("total=")[2]) / 1e6
    yield from _network(root)
    yield (
        "cpu.throttled",
        sum(whole_of(one) for one in root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/*_count")),
    )
    yield "memory.errors", sum(whole_of(one) for one in root.glob("sys/devices/system/edac/mc/mc*/[cu]e_count"))


def _network(root: Path) -> Iterator[tuple[str, float]]:
    for name in ("snmp", "netstat"):
        lines = text_of(root / "proc/net" / name).splitlines()
        for head, row in zip(lines[::2], lines[1::2], strict=False):
            found = dict(zip(head.split()[1:], row.split()[1:], strict=False))
            for key in ("OutSegs", "RetransSegs", "ListenOverflows", "TCPDSACKRecv"):
                if key in found:
                    yield f"net.{key}", float(found[key])
    errors = packets = 0
    for line in text_of(root / "proc/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        columns = rest.split()
        if name.strip() != "lo" and len(columns) >= 12:
            packets += int(columns[1]) + int(columns[9])
            errors += int(columns[2]) + int(columns[3]) + int(columns[10]) + int(columns[11])
    yield "net.errors", errors
    yield "net.packets", packets


def read_cpu(root: Path, between: Between, stranger: tuple[str, int, float, float], missing: dict[str, str]) -> Cpu:
    """Return the processors. `stranger`: name, process and processors of the busiest program of others. What the doctor
    itself uses between the looks counts as idle."""
    all_s = sum(between.grew(f"cpu.{name}") for name in _CPU_COLUMNS)

    def share(name: str) -> float:
        return between.grew(f"cpu.{name}") / all_s if all_s else 0.0

    if not all_s:
        missing["cpu.steal_share"] = missing["cpu.stranger_cores"] = "needs two looks"
    information = text_of(root / "proc/cpuinfo")
    fields = [line.partition(":") for line in information.splitlines()]

    def values(name: str) -> list[str]:
        return [value.strip() for key, _, value in fields if key.strip() == name]

    cores = {(a, b) for a, b in zip(values("physical id"), values("core id"), strict=False)}
    online = len(values("processor")) or os.cpu_count() or 1
    policy = root / "sys/devices/system/cpu/cpu0/cpufreq"
    governor = text_of(policy / "scaling_governor")
    if not governor:
        missing["cpu.governor"] = "the kernel shows no clock of the processors"
    now, most = whole_of(policy / "scaling_cur_freq"), whole_of(policy / "cpuinfo_max_freq")
    nodes = len(list(root.glob("sys/devices/system/node/node[0-9]*"))) or 1
    misses, hits = between.grew("vm.numa_miss"), between.grew("vm.numa_hit")
    return Cpu(
        cores=allowed_cores(root),
        cores_online=online,
        cores_physical=len(cores) or online,
        model=next(iter(values("model name")), ""),
        flags=tuple(next(iter(values("flags") or values("Features")), "").split()),
        idle_share=min(1.0, share("idle") + share("iowait") + share("doctor")) if all_s else 1.0,
        steal_share=share("steal"),
        stranger=stranger[0],
        stranger_pid=stranger[1],
        stranger_cores=stranger[2],
        strangers_cores=stranger[3],
        pressure_share=between.per_s("pressure.cpu.some"),
        governor=governor,
        clock_share=now / most if now and most else 1.0,
        throttled=int(between.grew("cpu.throttled")),
        autogroups=whole_of(root / "proc/sys/kernel/sched_autogroup_enabled") == 1,
        numa_nodes=nodes,
        numa_miss_share=misses / (misses + hits) if misses + hits > 1000 else 0.0,
    )


def read_memory(root: Path, between: Between) -> Memory:
    """Return the memory of the machine."""
    rows = rows_of(root / "proc/meminfo")

    def kib(name: str) -> int:
        return rows.get(name, 0) << 10

    chosen = text_of(root / "sys/kernel/mm/transparent_hugepage/enabled")
    return Memory(
        total_bytes=kib("MemTotal"),
        available_bytes=kib("MemAvailable"),
        swap_bytes=kib("SwapTotal"),
        swap_used_bytes=kib("SwapTotal") - kib("SwapFree"),
        swapped_in_per_s=between.per_s("vm.pswpin"),
        pressure_share=between.per_s("pressure.memory.full"),
        oom_kills=int(between.grew("vm.oom_kill")),
        huge_pages=chosen.partition("[")[2].partition("]")[0] or "madvise",
        overcommit=whole_of(root / "proc/sys/vm/overcommit_memory"),
        errors=int(between.grew("memory.errors")),
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
                    version=1 if (folder / "cgroup.clone_children").exists() else 2,
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
    sent = between.grew("net.OutSegs")
    # What the other side had already was not lost: where processors are short, answers come later than is waited for.
    lost = max(0.0, between.grew("net.RetransSegs") - between.grew("net.TCPDSACKRecv"))
    low, _, high = text_of(root / "proc/sys/net/ipv4/ip_local_port_range").partition("\t")
    tracked = whole_of(root / "proc/sys/net/netfilter/nf_conntrack_count")
    table = whole_of(root / "proc/sys/net/netfilter/nf_conntrack_max")
    waiting = 0
    for line in text_of(root / "proc/net/sockstat").splitlines():
        words = line.split()
        if words[:1] == ["TCP:"] and "tw" in words:
            waiting = int(words[words.index("tw") + 1])
    full: dict[int, int] = {}
    for name in between.after.numbers:
        if name.startswith("listener.") and (grew := int(between.grew(name))):
            port = int(name.split(".")[1])
            full[port] = full.get(port, 0) + grew
    return Network(
        sent_segments=int(sent),
        resent_share=lost / sent if sent else 0.0,
        overflows=sum(full.values()) if between.now("listeners.told") else int(between.grew("net.ListenOverflows")),
        full_ports=tuple(sorted(full)),
        backlog_most=whole_of(root / "proc/sys/net/core/somaxconn", 4096),
        waiting_ports=waiting,
        ports=int(high) - int(low) if low.strip().isdigit() and high.strip().isdigit() else 28_232,
        tracked_share=tracked / table if table else 0.0,
        errors=int(between.grew("net.errors")),
        packets=max(1, int(between.grew("net.packets"))),
    )


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), as far as it is read here."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_char * 256),
    )  # fmt: skip


def read_clock(between: Between, newest_record_s: float, missing: dict[str, str]) -> Clock:
    """Return the wall clock. `newest_record_s`: of the audit log; 0: there is none."""
    timex = _Timex()
    try:
        told = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))  # modes 0: reads alone
    except (OSError, AttributeError):
        told = -1
    if told < 0:
        missing["clock.synchronised"] = "adjtimex is not to be had here"
    return Clock(
        stepped_s=between.stepped_s,
        synchronised=told < 0 or not timex.status & _UNSYNC,
        error_s=timex.maxerror / 1e6 if told >= 0 else 0.0,
        behind_record_s=max(0.0, newest_record_s - between.after.at_s) if newest_record_s else 0.0,
    )
