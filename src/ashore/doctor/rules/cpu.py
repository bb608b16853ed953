"""Processors: who may use them, who takes them away, and what slows them down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import counted
from ashore.doctor.model import Change, Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

THROTTLED_SHARE: Final = 0.05
STRANGER_SHARE: Final = 0.3
WAITS_SHARE: Final = 0.4
ANSWERING: Final = ("host", "api", "edge", "cache", "supervisor")
"""Roles of processes that requests wait for."""


def _give_way(seen: Readings, pid: int) -> str:
    """Return the command that lets a program run after all others."""
    if seen.cpu.autogroups:
        return f"echo 19 > /proc/{pid}/autogroup  # of its whole session: this kernel divides between those first"
    return f"renice 19 {pid}"


@rule(
    "D101",
    "cpu",
    "Do engines compute with more threads than the server may use processors?",
    needs=("cpu.cores", "hosts"),
    explains=("D607",),
    source="oneDNN and OpenVINO: one thread for each core; more wait for each other at every layer",
)
def too_many_threads(seen: Readings) -> Iterator[Finding]:
    hosts = [one for one in seen.hosts if one.threads and one.computes_here]
    for one in hosts:
        if one.threads > seen.cpu.cores:
            yield Finding(
                severity="warning",
                what=f"the engine of {one.alias} computes with {one.threads} threads on {seen.cpu.cores} processors",
                cause="threads that share a processor wait for each other in every layer; a step takes as long as the "
                "slowest of them",
                evidence=(evidence("threads", one.threads, f"{seen.cpu.cores} processors after affinity and quotas"),),
                sure="certain",
                remedy="set [model.engine] threads to the number of processors, or leave it out; then reload",
                commands=(
                    f"# in ashore.toml, [model.engine] of {one.alias}: threads = {seen.cpu.cores}",
                    "ashore reload",
                ),
            )


@rule(
    "D102",
    "cpu",
    "Does a quota of processor time stop the server again and again?",
    needs=("groups", "cpu"),
    explains=("D607", "D608", "D616"),
    source="kernel documentation, CFS bandwidth control: nr_throttled and throttled_usec of cpu.stat",
)
def throttled(seen: Readings) -> Iterator[Finding]:
    for one in seen.groups:
        if one.quota_cores and one.throttled_share > THROTTLED_SHARE:
            whole = max(1, int(one.quota_cores))
            yield Finding(
                severity="warning",
                what=f"the quota of the control group {one.path} stopped the server in {one.throttled_share:.0%} of "
                "all "
                "periods",
                cause=f"the processes want more than {one.quota_cores:g} processors; each period ends with all of them "
                "standing still",
                evidence=(
                    evidence("throttled periods", f"{one.throttled_share:.0%}", f"{THROTTLED_SHARE:.0%}"),
                    evidence("standing still", f"{1e3 * one.throttled_s_per_s:.0f} ms a second"),
                    evidence("quota", f"{one.quota_cores:g} processors"),
                ),
                sure="certain",
                remedy="raise the quota (CPUQuota= of the unit, limits.cpu of the pod), or give the engine "
                f"{whole} threads so that it fits",
                commands=("systemctl edit ashore  # [Service] CPUQuota=", f"# or [model.engine] threads = {whole}"),
            )


@rule(
    "D107",
    "cpu",
    "Does a variable slow an engine down, or hide its GPU?",
    needs=("processes",),
    source="Python documentation, PYTHONMALLOC; CUDA programming guide, CUDA_VISIBLE_DEVICES",
)
def slowing_variable(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        if one.role not in ("host", "api"):
            continue
        if one.variables.get("PYTHONMALLOC", "").endswith("debug") or one.variables.get("PYTHONMALLOC") == "malloc":
            yield Finding(
                severity="warning",
                what=f"{one.name} runs with PYTHONMALLOC={one.variables['PYTHONMALLOC']}",
                cause="Python checks or asks the system for every small object; requests take up to twice as long",
                evidence=(evidence("PYTHONMALLOC", one.variables["PYTHONMALLOC"], "not set"),),
                sure="certain",
                remedy="start the server without that variable",
                commands=("unset PYTHONMALLOC  # then: ashore stop; ashore up",),
            )
        if seen.gpus and one.role == "host" and one.variables.get("CUDA_VISIBLE_DEVICES") in ("-1", "none"):
            yield Finding(
                severity="warning",
                what=f"{one.name} may not see the GPUs of this machine",
                cause="CUDA_VISIBLE_DEVICES hides them",
                evidence=(evidence("CUDA_VISIBLE_DEVICES", one.variables["CUDA_VISIBLE_DEVICES"], "not set"),),
                sure="certain",
                remedy="start the server without that variable",
                commands=("unset CUDA_VISIBLE_DEVICES  # then: ashore stop; ashore up",),
            )


@rule(
    "D111",
    "cpu",
    "Does a program that is not ashore use the processors?",
    needs=("cpu.stranger_cores",),
    explains=("D600", "D607"),
)
def stranger(seen: Readings) -> Iterator[Finding]:
    share = seen.cpu.strangers_cores / max(1, seen.cpu.cores)
    if share > STRANGER_SHARE and seen.cpu.idle_share < 0.25:
        yield Finding(
            severity="warning",
            what=f"other programs use {seen.cpu.strangers_cores:.1f} of {seen.cpu.cores} processors; "
            f"the busiest is {seen.cpu.stranger} (process {seen.cpu.stranger_pid})",
            cause="programs outside of this server take processors that engines wait for",
            evidence=(
                evidence("used by others", f"{share:.0%}", f"{STRANGER_SHARE:.0%}"),
                evidence("the busiest", f"{seen.cpu.stranger_cores:.1f} processors"),
                evidence("idle", f"{seen.cpu.idle_share:.0%}", "25%"),
            ),
            sure="certain",
            remedy="run them elsewhere or at another time, or lower their weight",
            commands=(_give_way(seen, seen.cpu.stranger_pid),),
        )


@rule("D113", "cpu", "May an engine run on fewer processors than it has threads?", needs=("processes", "hosts"))
def narrow_affinity(seen: Readings) -> Iterator[Finding]:
    pids = {one.pid: one for one in seen.hosts if one.threads and one.computes_here}
    for one in seen.processes:
        host = pids.get(one.pid)
        if host is not None and one.cores < host.threads <= seen.cpu.cores:
            yield Finding(
                severity="warning",
                what=f"{one.name} may use {counted(one.cores, 'processor')} and computes with "
                f"{counted(host.threads, 'thread')}",
                cause="the process was bound to a part of the processors after it was planned",
                evidence=(evidence("processors it may use", one.cores, host.threads),),
                sure="certain",
                remedy="bind it to as many processors as it has threads",
                commands=(f"taskset -a -p -c 0-{host.threads - 1} {one.pid}",),
            )


@rule(
    "D114",
    "cpu",
    "Does an idle class starve a process that answers requests?",
    needs=("processes", "cpu"),
    explains=("D600", "D607", "D608"),
)
def starved(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        if one.idle_class and one.role in ANSWERING:
            yield Finding(
                severity="warning",
                what=f"{one.name} runs with what other programs leave",
                cause="its scheduling class is SCHED_IDLE, which is meant for background work",
                evidence=(evidence("class", "idle", "ordinary"),),
                sure="certain",
                remedy="put it back into the ordinary class",
                commands=(f"chrt --other -a -p 0 {one.pid}",),
                change=Change(kind="idle-class", target=str(one.pid), value="ordinary"),
            )


@rule(
    "D116",
    "cpu",
    "Is a process bound to processors that others use, while there are idle ones?",
    needs=("processes", "cpu.stranger_cores"),
    explains=("D508", "D600", "D607", "D608"),
    source="sched_setaffinity(2), cpuset(7); proc(5), schedstat: time on a run queue",
)
def bound(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        idle = seen.cpu.idle_share * seen.cpu.cores_online
        if one.role in ANSWERING and one.cores < seen.cpu.cores_online and one.waits_share > WAITS_SHARE and idle > 0.3:
            yield Finding(
                severity="warning",
                what=f"{one.name} (process {one.pid}) waits for a processor {one.waits_share:.0%} of the time, while "
                f"{idle:.1f} of {seen.cpu.cores_online} are idle",
                cause=f"it may use {one.cores} of them, and others use those, too",
                evidence=(
                    evidence("waits", f"{one.waits_share:.0%} of the time", f"{WAITS_SHARE:.0%}"),
                    evidence("processors that it may use", one.cores, seen.cpu.cores_online),
                ),
                sure="certain",
                remedy="let it use the others: cpuset of the unit or the container, or its affinity",
                commands=(f"taskset -a -p -c 0-{seen.cpu.cores_online - 1} {one.pid}",),
            )
