"""This machine as a device. Reads the kernel and benchmarks the processor; the rest of sizing is arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from ashore.data.engines import read_inventory
from ashore.lab.sizing.chips import Chip
from ashore.lab.sizing.own import Rates, this_machine

_BYTES: Final = 128 << 20
"""More than processors have of cache, shared between the virtual machines of a socket."""
_SIDE: Final = 1024
_TRIES: Final = 5
"""The best of so many counts: who else computes now need not compute later."""


def chip_here(root: Path = Path("/"), *, rates: Rates | None = None) -> Chip:
    """Return this process's share of the processor as a device. `root` stands for `/` in tests.

    Args:
        root: Where the kernel's files are.
        rates: What `measure_rates` found; None: name, cores and flags say it.
    """
    has = read_inventory(root)
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    flags = frozenset(found[1].split()) if found else frozenset()
    return this_machine(cores=has.cores, memory_bytes=has.memory_bytes, cpu=has.cpu, flags=flags, rates=rates)


def measure_rates() -> Rates:
    """Measure the processor's current speed; takes half a second and 140 MB."""
    numbers = np.ones(_BYTES // 4, dtype=np.float32)
    square = np.ones((_SIDE, _SIDE), dtype=np.float32)
    reading = _best(lambda: np.dot(numbers, numbers))
    product = _best(lambda: square @ square)
    return Rates(bytes_per_s=numbers.nbytes / reading, flops=2 * float(_SIDE) ** 3 / product)


def _best(work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_TRIES):
        began = perf_counter()
        work()
        seconds.append(perf_counter() - began)
    return min(seconds)
