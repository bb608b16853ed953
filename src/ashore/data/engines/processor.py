"""The instruction sets of this processor, or those of an older one that it is to stand for in a measurement."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MASK: Final = "ONEDNN_MAX_CPU_ISA"
"""Variable of the environment that oneDNN, below OpenVINO, reads too. `AVX2`: use nothing newer."""
_NEWER_THAN_AVX2: Final = ("avx512", "avx_vnni", "amx")


def is_masked(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether nothing newer than AVX2 is to be used."""
    return environ.get(MASK, "").upper() == "AVX2"


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo"), environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return the instruction sets to use, as Linux names them on x86 and Arm; empty if unknown."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    flags = frozenset(found.partition(":")[2].split())
    return frozenset(f for f in flags if not f.startswith(_NEWER_THAN_AVX2)) if is_masked(environ) else flags
