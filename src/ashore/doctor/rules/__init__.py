"""The rules of the doctor, by what they look at. A rule is data and a pure function; none looks at the world.

To add one: write the function in the module of what it looks at, with the next free id, and name it in that module's
`RULES`; add a row to tests/unit/doctor/test_doctor_rules.py with readings on which it fires, and run `make docs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ashore.doctor.rule import Rule
from ashore.doctor.rules import access, audit, cpu, disk, gpu, hosts, memory, network, parts, process, requests, upkeep

RULES: Final[tuple[Rule, ...]] = (
    *cpu.RULES,
    *memory.RULES,
    *disk.RULES,
    *network.RULES,
    *process.RULES,
    *requests.RULES,
    *hosts.RULES,
    *gpu.RULES,
    *parts.RULES,
    *audit.RULES,
    *access.RULES,
    *upkeep.RULES,
)
BY_ID: Final[Mapping[str, Rule]] = MappingProxyType({one.id: one for one in RULES})

__all__ = ["BY_ID", "RULES"]
