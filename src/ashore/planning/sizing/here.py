"""This machine as a device. Reads the kernel; everything else of sizing is arithmetic."""

from __future__ import annotations

import re
from pathlib import Path

from ashore.planning.inventory import read_inventory
from ashore.planning.sizing.chips import Chip
from ashore.planning.sizing.own import this_machine


def chip_here(root: Path = Path("/")) -> Chip:
    """Return what this process may use of this machine's processor. `root` stands for `/` in tests."""
    has = read_inventory(root)
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    flags = frozenset(found[1].split()) if found else frozenset()
    return this_machine(cores=has.cores, memory_bytes=has.memory_bytes, cpu=has.cpu, flags=flags)
