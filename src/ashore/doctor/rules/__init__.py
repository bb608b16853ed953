"""The rules of the doctor, by what they look at. A rule is data and a pure function; none looks at the world.

To add one: write it in the module of what it looks at, with the next free id. Add a row to
tests/unit/doctor/test_doctor_rules.py with readings on which it fires, and a test that makes the fault or reads a
recording of a real one: `make docs` refuses a rule without. Run `make docs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ashore.doctor.rule import Rule
from ashore.doctor.rules import access, audit, cpu, disk, gpu, hosts, memory, network, parts, process, requests, upkeep

_MODULES: Final = (cpu, memory, disk, network, process, requests, hosts, gpu, parts, audit, access, upkeep)
RULES: Final[tuple[Rule, ...]] = tuple(
    one for module in _MODULES for one in vars(module).values() if isinstance(one, Rule)
)
BY_ID: Final[Mapping[str, Rule]] = MappingProxyType({one.id: one for one in RULES})

__all__ = ["BY_ID", "RULES"]
