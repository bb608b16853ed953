"""Resources of this machine, read from the kernel. The only part of planning with I/O."""

from __future__ import annotations

import platform
from pathlib import Path

from ashore.data.engines.plan import Inventory
from ashore.kit.processes import allowed_cores, free_memory_bytes


def read_inventory(root: Path = Path("/")) -> Inventory:
    """Return cores and memory, within affinity and control group limits. `root` stands for `/` in tests."""
    return Inventory(cores=allowed_cores(root), memory_bytes=free_memory_bytes(root), cpu=_cpu_name(root))


def _cpu_name(root: Path) -> str:
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
