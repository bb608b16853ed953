"""Describes this machine, as far as a measurement depends on it."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from ashore import __version__
from ashore.data.engines.cards import CARDS
from ashore.data.engines.processor import cpu_flags
from ashore.data.engines.tuning.model import Machine

LIBRARIES: Final = tuple(sorted(name for card in CARDS for name in card.libraries))
"""Packages whose version may change how fast an engine is."""

BUSY_SHARE: Final = 0.25
"""A load beyond this share of the cores is told, because it makes figures too low."""


def describe_machine(*, cpu: str, cores: int) -> Machine:
    """Return the description of this machine. Loads no engine library.

    Args:
        cpu: Processor as the kernel names it, from `planning.read_inventory`.
        cores: Cores that this process may use, from the same.
    """
    return Machine(cpu=cpu, cores=cores, versions={"ashore": __version__, **library_versions()})


def library_versions() -> dict[str, str]:
    """Return the installed version of each of `LIBRARIES`, from package metadata alone."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def computes_in_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor has BF16 arithmetic (AVX-512 or AMX on x86, its own flag on Arm)."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags(cpuinfo))


def multiplies_bytes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor has products of bytes (VNNI or AMX on x86, dot products or I8MM on Arm)."""
    return bool({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"} & cpu_flags(cpuinfo))


def busy_note(cores: int) -> str:
    """Return a warning if other work keeps this machine busy now, otherwise an empty text."""
    load = os.getloadavg()[0]
    if load <= cores * BUSY_SHARE:
        return ""
    return f"this machine was busy with other work when the tuning started (load {load:.1f} on {cores} cores)"
