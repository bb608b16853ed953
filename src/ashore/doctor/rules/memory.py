"""Memory: what is left, who was killed, what was swapped, and in which pages weights lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import human_bytes
from ashore.doctor.model import Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

LEAST_BYTES: Final = 512 << 20
LEAST_SHARE: Final = 0.03
FULL_SHARE: Final = 0.95


@rule(
    "D201",
    "memory",
    "Is memory nearly used up?",
    needs=("memory.available_bytes",),
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
    explains=("D503", "D616"),
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
    "D212",
    "memory",
    "Is a control group close to its memory limit?",
    needs=("groups",),
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
