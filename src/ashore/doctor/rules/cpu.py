"""Processors: who may use them, who takes them away, and what slows them down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import counted
from ashore.doctor.model import Change, Finding, evidence
from ashore.doctor.readings import DEFAULT_WEIGHT, Readings
from ashore.doctor.rule import Rule, rule

THROTTLED_SHARE: Final = 0.05
STEAL_SHARE: Final = 0.03
STRANGER_SHARE: Final = 0.3
PREEMPTED_PER_S: Final = 500.0
NUMA_MISSES: Final = 0.1
"""Engines that compute nothing in the process of their host."""
WAITS_SHARE: Final = 0.4
ANSWERING: Final = ("host", "api", "edge", "cache", "supervisor")
"""Roles of processes that requests wait for."""


def _weigh(seen: Readings, pid: int, nice: int) -> str:
    """Return the command that gives a program a nice value that counts."""
    if seen.cpu.autogroups:
        return f"echo {nice} > /proc/{pid}/autogroup  # of its whole session: this kernel divides between those first"
    return f"renice {nice} {pid}"


def _give_way(seen: Readings, pid: int) -> str:
    return _weigh(seen, pid, 19)


@rule(
    "D101",
    "cpu",
    "Do engines compute with more threads than the server may use processors?",
    needs=("cpu.cores", "hosts"),
    explains=("D105", "D607"),
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
    explains=("D105", "D504", "D607", "D608", "D616"),
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


@rule("D103", "cpu", "Do engines leave processors idle while requests wait?", needs=("cpu", "hosts", "models"))
def too_few_threads(seen: Readings) -> Iterator[Finding]:
    threads = sum(one.threads for one in seen.hosts if one.computes_here)
    bound = [one for one in seen.hosts if one.threads and one.computes_here]
    waiting = sum(one.waiting for one in seen.models)
    if bound and waiting and threads * 2 <= seen.cpu.cores and seen.cpu.idle_share > 0.4:
        yield Finding(
            severity="warning",
            what=f"{waiting} requests wait while {seen.cpu.idle_share:.0%} of the processors are idle",
            cause=f"all engines together compute with {threads} threads on {seen.cpu.cores} processors",
            evidence=(
                evidence("threads", threads, f"{seen.cpu.cores} processors"),
                evidence("idle", f"{seen.cpu.idle_share:.0%}", "40%"),
                evidence("waiting requests", waiting),
            ),
            sure="likely",
            remedy="raise [model.engine] threads, or add replicas",
            commands=("ashore engine tune NAME  # measures what suits this machine",),
        )


@rule(
    "D104",
    "cpu",
    "Does the hypervisor give the processors to other machines?",
    needs=("cpu.steal_share",),
    explains=("D504", "D607"),
    source="proc(5), steal time; more than a few percent is felt in every token",
)
def stolen(seen: Readings) -> Iterator[Finding]:
    if seen.cpu.steal_share > STEAL_SHARE:
        yield Finding(
            severity="warning",
            what=f"the hypervisor takes {seen.cpu.steal_share:.0%} of the processor time",
            cause="another virtual machine on the same host computes; nothing inside this machine can change that",
            evidence=(evidence("steal", f"{seen.cpu.steal_share:.1%}", f"{STEAL_SHARE:.0%}"),),
            sure="certain",
            remedy="reserve processors for this machine, or move it to another host",
        )


@rule(
    "D105",
    "cpu",
    "Do other programs push engines off their processors?",
    needs=("processes", "cpu"),
    explains=("D607",),
    source="proc(5), nonvoluntary_ctxt_switches",
)
def pushed_off(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        if one.role == "host" and one.preempted_per_s > PREEMPTED_PER_S and seen.cpu.idle_share < 0.1:
            yield Finding(
                severity="warning",
                what=f"{one.name} loses its processor {one.preempted_per_s:.0f} times a second",
                cause=f"more threads want to run than there are processors; the busiest stranger is "
                f"{seen.cpu.stranger or 'not known'} with {seen.cpu.stranger_cores:.1f} processors",
                evidence=(
                    evidence("involuntary switches", f"{one.preempted_per_s:.0f}/s", f"{PREEMPTED_PER_S:.0f}/s"),
                    evidence("idle", f"{seen.cpu.idle_share:.0%}", "10%"),
                ),
                sure="likely",
                remedy="give the other program other processors, or lower its weight",
                commands=(_give_way(seen, seen.cpu.stranger_pid),) if seen.cpu.stranger_pid else (),
            )


@rule("D106", "cpu", "Do the processors run below their clock?", needs=("cpu.governor",))
def slow_clock(seen: Readings) -> Iterator[Finding]:
    if seen.cpu.governor not in ("", "performance") and seen.cpu.clock_share < 0.8 and seen.cpu.idle_share < 0.5:
        yield Finding(
            severity="warning",
            what=f"under load the processors run at {seen.cpu.clock_share:.0%} of their clock",
            cause=f"the frequency governor is {seen.cpu.governor}",
            evidence=(
                evidence("clock", f"{seen.cpu.clock_share:.0%}", "80% of the highest"),
                evidence("governor", seen.cpu.governor, "performance"),
            ),
            sure="likely",
            remedy="set the governor to performance",
            commands=("cpupower frequency-set --governor performance",),
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


@rule("D108", "cpu", "Do engines read memory of the other socket?", needs=("cpu.numa_miss_share", "hosts"))
def far_memory(seen: Readings) -> Iterator[Finding]:
    if seen.cpu.numa_nodes > 1 and seen.cpu.numa_miss_share > NUMA_MISSES:
        yield Finding(
            severity="warning",
            what=f"{seen.cpu.numa_miss_share:.0%} of the memory is given out by another NUMA node than asked for",
            cause=f"an engine's threads run on {seen.cpu.numa_nodes} nodes, and its weights lie on one of them",
            evidence=(evidence("misses", f"{seen.cpu.numa_miss_share:.0%}", f"{NUMA_MISSES:.0%}"),),
            sure="likely",
            remedy="run one replica for each node, each with its share of the processors",
            commands=(f"# in ashore.toml, [[model]]: replicas = {seen.cpu.numa_nodes}, [model.share] cpus = …",),
        )


@rule(
    "D109",
    "cpu",
    "Do two threads of an engine share one physical core?",
    needs=("cpu.cores_physical", "hosts"),
    source="decoding waits for memory; a second thread of a core adds none. `ashore engine tune` measures it",
)
def two_on_a_core(seen: Readings) -> Iterator[Finding]:
    for one in seen.hosts:
        if seen.cpu.cores_physical < one.threads <= seen.cpu.cores and one.computes_here:
            yield Finding(
                severity="advice",
                what=f"the engine of {one.alias} has {one.threads} threads on {seen.cpu.cores_physical} physical cores",
                cause="two threads of one core share its units; decoding waits for memory and gains nothing",
                evidence=(evidence("threads", one.threads, f"{seen.cpu.cores_physical} physical cores"),),
                sure="possible",
                remedy="measure both",
                commands=(f"ashore engine tune {one.alias}",),
            )


@rule(
    "D110",
    "cpu",
    "Does background work compete with requests?",
    needs=("processes", "cpu", "models"),
    source="sched(7): SCHED_IDLE runs with what the others leave",
)
def background_competes(seen: Readings) -> Iterator[Finding]:
    busy = sum(one.running + one.waiting for one in seen.models)
    for one in seen.processes:
        if one.role == "backup" and not one.idle_class and one.cpu_cores > 0.2 and busy and seen.cpu.idle_share < 0.1:
            yield Finding(
                severity="warning",
                what=f"{one.name} takes {one.cpu_cores:.1f} processors from {busy} requests",
                cause="it runs in the ordinary class while requests wait for a processor",
                evidence=(evidence("used", f"{one.cpu_cores:.1f} processors"), evidence("class", "ordinary", "idle")),
                sure="likely",
                remedy="let it run with what the others leave",
                commands=(f"chrt --idle -p 0 {one.pid}",),
                change=Change(kind="idle-class", target=str(one.pid), value="idle"),
            )


@rule(
    "D111",
    "cpu",
    "Does a program that is not ashore use the processors?",
    needs=("cpu.stranger_cores",),
    explains=("D105", "D504", "D600", "D607", "D622"),
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


@rule("D112", "cpu", "Did the processors grow too hot?", needs=("cpu.throttled",), explains=("D106",))
def too_hot(seen: Readings) -> Iterator[Finding]:
    if seen.cpu.throttled:
        yield Finding(
            severity="warning",
            what=f"the processors slowed down {seen.cpu.throttled} times because they were too hot",
            cause="cooling is not enough for this load",
            evidence=(evidence("thermal throttling", seen.cpu.throttled, 0),),
            sure="certain",
            remedy="look at fans, filters and the temperature of the room",
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
    explains=("D504", "D600", "D607", "D608", "D622"),
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
    "D115",
    "cpu",
    "Does a process that answers requests get no processor because its weight is low?",
    needs=("processes", "cpu"),
    explains=("D504", "D508", "D513", "D600", "D607", "D608", "D622", "D804"),
    source="proc(5), schedstat: time on a run queue; cpu.shares, cpu.weight, nice(2)",
)
def light_weight(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        nice = max(one.nice, one.session_nice)
        is_light = nice > 0 or one.weight < DEFAULT_WEIGHT
        if one.role not in ANSWERING or one.waits_share < WAITS_SHARE or not is_light:
            continue
        light = f"weight {one.weight} of its control group" if one.weight < DEFAULT_WEIGHT else f"nice value {nice}"
        yield Finding(
            severity="warning",
            what=f"{one.name} (process {one.pid}) is ready to work and waits for a processor "
            f"{one.waits_share:.0%} of the time",
            cause=f"it has the {light}, so that every other program comes first",
            evidence=(
                evidence("waits", f"{one.waits_share:.0%} of the time", f"{WAITS_SHARE:.0%}"),
                evidence("weight", one.weight, DEFAULT_WEIGHT),
                evidence("nice", nice, 0),
                evidence("idle", f"{seen.cpu.idle_share:.0%}"),
            ),
            sure="certain",
            remedy="give it the weight of other programs, or take the other programs away",
            commands=(_weigh(seen, one.pid, 0) if one.session_nice > 0 else f"renice 0 {one.pid}",)
            if nice > 0
            else (f"cat /proc/{one.pid}/cgroup  # its group; CPUWeight= of the unit, requests.cpu of the pod",),
        )


@rule(
    "D116",
    "cpu",
    "Is a process bound to processors that others use, while there are idle ones?",
    needs=("processes", "cpu.stranger_cores"),
    explains=("D504", "D508", "D600", "D607", "D608", "D622"),
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


RULES: Final[tuple[Rule, ...]] = (
    too_many_threads,
    throttled,
    too_few_threads,
    stolen,
    pushed_off,
    slow_clock,
    slowing_variable,
    far_memory,
    two_on_a_core,
    background_competes,
    stranger,
    too_hot,
    narrow_affinity,
    starved,
    light_weight,
    bound,
)
