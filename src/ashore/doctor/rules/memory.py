"""Memory: what is left, who was killed, what was swapped, and in which pages weights lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import human_bytes
from ashore.doctor.model import Change, Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import Rule, rule

LEAST_BYTES: Final = 512 << 20
LEAST_SHARE: Final = 0.03
FULL_SHARE: Final = 0.95
AMPLE_SHARE: Final = 0.25
"""Of all memory, or of a limit, that is free: with less, pages are dropped that are needed again."""
PRESSURE: Final = 0.05
FAULTS_PER_S: Final = 20.0
GROWTH_BYTES_PER_S: Final = (1 << 20) / 60
GROWTH_SPAN_S: Final = 1800.0
MANY_MAPS: Final = 0.8
THP: Final = "/sys/kernel/mm/transparent_hugepage/enabled"


@rule(
    "D201",
    "memory",
    "Is memory nearly used up?",
    needs=("memory.available_bytes",),
    explains=("D206", "D210"),
    down=True,
)
def short(seen: Readings) -> Iterator[Finding]:
    least = max(LEAST_BYTES, int(LEAST_SHARE * seen.memory.total_bytes))
    if seen.memory.available_bytes < least:
        yield Finding(
            severity="critical",
            what=f"{human_bytes(seen.memory.available_bytes)} of memory are left",
            cause="the kernel kills a process when nothing is left; an engine host is the largest",
            evidence=(
                evidence("available", human_bytes(seen.memory.available_bytes), human_bytes(least)),
                evidence("all", human_bytes(seen.memory.total_bytes)),
            ),
            sure="certain",
            remedy="serve a smaller variant, fewer replicas or fewer models; end other programs",
            commands=("ashore model ps", "ashore up --dry-run  # what each model needs"),
        )


@rule(
    "D202",
    "memory",
    "Did the kernel kill a process for want of memory?",
    needs=("memory.oom_kills",),
    explains=("D503", "D511", "D615", "D616"),
    source="kernel documentation: oom_kill of memory.events and vmstat",
)
def killed(seen: Readings) -> Iterator[Finding]:
    groups = [one for one in seen.groups if one.oom_kills]
    number = max([seen.memory.oom_kills, *(one.oom_kills for one in groups)])
    if number:
        where = f"the control group {groups[0].path}" if groups else "the machine"
        limit = human_bytes(groups[0].memory_limit_bytes) if groups and groups[0].memory_limit_bytes else "none"
        yield Finding(
            severity="critical",
            what=f"the kernel killed {number} processes because {where} had no memory left",
            cause="processes took more than was there; what they answered was lost",
            evidence=(evidence("kills", number, 0), evidence("limit of the group", limit)),
            sure="certain" if groups else "likely",
            remedy="raise the limit, or set [model.engine] kv_tokens lower, or serve a smaller variant",
            commands=("journalctl -k --grep 'Out of memory' | tail", "ashore up --dry-run"),
        )


@rule(
    "D203",
    "memory",
    "Does the server's memory lie in swap?",
    needs=("processes",),
    explains=("D206", "D607"),
    source="every token reads every weight: one swapped page stops it",
)
def swapped(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        if one.swapped_bytes > (64 << 20 if one.role == "host" else 256 << 20):
            yield Finding(
                severity="warning",
                what=f"{human_bytes(one.swapped_bytes)} of {one.name} lie in swap",
                cause="memory was short, and the kernel moved pages to the disk; reading them again stops the process",
                evidence=(
                    evidence("swapped", human_bytes(one.swapped_bytes), "0"),
                    evidence("swapped in", f"{seen.memory.swapped_in_per_s:.0f} pages/s"),
                ),
                sure="certain",
                remedy="free memory, then bring it back; forbid swap for the unit",
                commands=("swapoff -a && swapon -a", "systemctl edit ashore  # [Service] MemorySwapMax=0"),
            )


@rule(
    "D204",
    "memory",
    "Do weights lie in small pages?",
    needs=("memory.huge_pages", "processes", "hosts"),
    source="benchmarks/reports/2026-11-27-release.md: up to 14% slower in scattered small pages",
)
def small_pages(seen: Readings) -> Iterator[Finding]:
    if seen.memory.huge_pages == "never" and any(one.computes_here for one in seen.hosts):
        yield Finding(
            severity="warning",
            what="transparent huge pages are switched off",
            cause="weights lie in pages of 4 KiB, and the processor looks up an address for each of them",
            evidence=(evidence(THP, "never", "madvise"),),
            sure="likely",
            remedy="set them to madvise; hosts that start from then on use them",
            commands=(f"echo madvise > {THP}",),
            change=Change(kind="kernel", target=THP, value="madvise", safe=False),
        )


@rule(
    "D206",
    "memory",
    "Does an engine read its weights from the disk again?",
    needs=("processes",),
    explains=("D607",),
    source="proc(5), majflt",
)
def read_again(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        if one.role == "host" and one.major_faults_per_s > FAULTS_PER_S and one.age_s > 120:
            yield Finding(
                severity="warning",
                what=f"{one.name} waits for the disk {one.major_faults_per_s:.0f} times a second",
                cause="pages of its weights were dropped from memory, and are read again when a token needs them",
                evidence=(evidence("major faults", f"{one.major_faults_per_s:.0f}/s", f"{FAULTS_PER_S:.0f}/s"),),
                sure="likely",
                remedy="free memory, or raise the memory limit of the group",
                commands=("ashore model ps",),
            )


@rule("D207", "memory", "Does a process that has nothing to do grow?", needs=("processes", "models"))
def grows(seen: Readings) -> Iterator[Finding]:
    answers = sum(one.answers + one.running for one in seen.models)
    for one in seen.processes:
        if seen.span_s >= GROWTH_SPAN_S and not answers and one.grows_bytes_per_s > GROWTH_BYTES_PER_S:
            yield Finding(
                severity="warning",
                what=f"{one.name} grew by {human_bytes(int(one.grows_bytes_per_s * 3600))} an hour without a request",
                cause="something is kept that nobody needs",
                evidence=(evidence("growth", f"{one.grows_bytes_per_s * 60 / 2**20:.1f} MiB/min", "1 MiB/min"),),
                sure="possible",
                remedy="report it with a support bundle; a restart frees it",
                commands=("ashore doctor bundle", "ashore logs"),
            )


@rule(
    "D209",
    "memory",
    "Will the kernel refuse memory that is there?",
    needs=("memory.overcommit", "processes"),
    down=True,
    source="kernel documentation, overcommit accounting; vm.max_map_count",
)
def refuses(seen: Readings) -> Iterator[Finding]:
    if seen.memory.overcommit == 2:
        yield Finding(
            severity="warning",
            what="the kernel refuses memory that is promised and not used (vm.overcommit_memory = 2)",
            cause="engines map more than they use; Valkey forks to save",
            evidence=(evidence("vm.overcommit_memory", 2, "0 or 1"),),
            sure="likely",
            remedy="let the kernel promise more",
            commands=("sysctl -w vm.overcommit_memory=1",),
            change=Change(kind="kernel", target="/proc/sys/vm/overcommit_memory", value="1", safe=False),
        )
    for one in seen.processes:
        if one.maps > MANY_MAPS * one.maps_most:
            yield Finding(
                severity="warning",
                what=f"{one.name} uses {one.maps} of {one.maps_most} memory maps",
                cause="each mapped file and each thread needs some; the next mmap fails",
                evidence=(evidence("maps", one.maps, f"{MANY_MAPS:.0%} of {one.maps_most}"),),
                sure="certain",
                remedy="raise vm.max_map_count",
                commands=(f"sysctl -w vm.max_map_count={4 * one.maps_most}",),
                change=Change(
                    kind="kernel", target="/proc/sys/vm/max_map_count", value=str(4 * one.maps_most), safe=False
                ),
            )


@rule(
    "D210",
    "memory",
    "Does everything wait for memory?",
    needs=("memory.pressure_share",),
    explains=("D206", "D607"),
    source="kernel documentation, PSI: full means that no process got on",
)
def thrashes(seen: Readings) -> Iterator[Finding]:
    # Where memory is free, those who wait are in a control group of another program, at its own limit.
    is_short = (
        seen.memory.available_bytes < AMPLE_SHARE * seen.memory.total_bytes
        or seen.memory.swapped_in_per_s > 0
        or any(
            one.memory_limit_bytes and one.memory_used_bytes > (1 - AMPLE_SHARE) * one.memory_limit_bytes
            for one in seen.groups
        )
    )
    if seen.memory.pressure_share > PRESSURE and is_short:
        yield Finding(
            severity="warning",
            what=f"in {seen.memory.pressure_share:.0%} of the time every process waited for memory",
            cause="the kernel drops and reads the same pages again and again",
            evidence=(
                evidence("pressure", f"{seen.memory.pressure_share:.0%}", f"{PRESSURE:.0%}"),
                evidence("available", human_bytes(seen.memory.available_bytes)),
            ),
            sure="certain",
            remedy="serve less on this machine, or give it more memory",
            commands=("ashore model ps",),
        )


@rule(
    "D211",
    "memory",
    "Is there no room to load a second release beside the live one?",
    needs=("memory.available_bytes", "releases"),
)
def no_room_for_two(seen: Readings) -> Iterator[Finding]:
    if seen.releases.largest_bytes > seen.memory.available_bytes > 0:
        yield Finding(
            severity="advice",
            what=f"a new release of the largest model needs {human_bytes(seen.releases.largest_bytes)} beside the "
            "live one",
            cause="it is loaded before the live one ends; without room it is loaded after, and requests wait meanwhile",
            evidence=(
                evidence(
                    "available", human_bytes(seen.memory.available_bytes), human_bytes(seen.releases.largest_bytes)
                ),
            ),
            sure="likely",
            remedy="plan the change for a quiet hour, or use a smaller variant",
        )


@rule(
    "D212",
    "memory",
    "Is a control group close to its memory limit?",
    needs=("groups",),
    explains=("D206", "D210"),
    source="kernel documentation, memory.high and failcnt",
)
def group_full(seen: Readings) -> Iterator[Finding]:
    for one in seen.groups:
        if one.memory_limit_bytes and (
            one.memory_used_bytes > FULL_SHARE * one.memory_limit_bytes
            or (one.squeezed > 100 and one.memory_used_bytes > 0.8 * one.memory_limit_bytes)
        ):
            yield Finding(
                severity="warning",
                what=f"the control group {one.path} uses {human_bytes(one.memory_used_bytes)} of "
                f"{human_bytes(one.memory_limit_bytes)}",
                cause="the kernel slows a group down at its limit, and then kills its largest process",
                evidence=(
                    evidence("used", f"{one.memory_used_bytes / one.memory_limit_bytes:.0%}", f"{FULL_SHARE:.0%}"),
                    evidence("times at the limit", one.squeezed, 100),
                ),
                sure="certain",
                remedy="raise the limit (MemoryMax= of the unit, limits.memory of the pod), or serve less",
                commands=("systemctl edit ashore  # [Service] MemoryMax=",),
            )


@rule("D213", "memory", "Do memory modules report errors?", needs=("memory.errors",), down=True)
def bad_modules(seen: Readings) -> Iterator[Finding]:
    if seen.memory.errors:
        yield Finding(
            severity="warning",
            what=f"memory modules reported {seen.memory.errors} errors",
            cause="a module fails; errors that cannot be corrected change weights and answers",
            evidence=(evidence("EDAC errors", seen.memory.errors, 0),),
            sure="likely",
            remedy="find the module, and replace it",
            commands=("grep . /sys/devices/system/edac/mc/mc*/dimm*/dimm_*e_count",),
        )


@rule(
    "D214",
    "memory",
    "Does an engine need more memory than it was planned with?",
    needs=("processes", "hosts.needed_bytes"),
    source="the plan counts weights and KV cache; libraries take some more",
)
def more_than_planned(seen: Readings) -> Iterator[Finding]:
    by_pid = {one.pid: one for one in seen.processes}
    for one in seen.hosts:
        process = by_pid.get(one.pid)
        if process is None or not one.needed_bytes:
            continue
        allowed = 1.5 * one.needed_bytes + (1 << 30)
        if process.memory_bytes > allowed:
            yield Finding(
                severity="warning",
                what=f"{process.name} uses {human_bytes(process.memory_bytes)}; the plan gave it "
                f"{human_bytes(one.needed_bytes)}",
                cause="the model needs more than its files say, or something is kept",
                evidence=(evidence("used", human_bytes(process.memory_bytes), human_bytes(int(allowed))),),
                sure="likely",
                remedy="set [model.share] memory_bytes to what it really needs, so that the plan counts it",
                commands=("ashore up --dry-run",),
            )


RULES: Final[tuple[Rule, ...]] = (
    short,
    killed,
    swapped,
    small_pages,
    read_again,
    grows,
    refuses,
    thrashes,
    no_room_for_two,
    group_full,
    bad_modules,
    more_than_planned,
)
