"""What a process holds in memory, put into huge pages: where it lies then costs nothing.

A token reads every weight. In pages of 4 KiB that is a look-up of an address for each of them, and a processor saves
those only where neighbours happen to lie beside each other in the machine's memory too. So of two hosts of one model
the one that was started into more scattered memory was up to 14 % slower for as long as it ran
(benchmarks/reports/2026-11-27-release.md).
"""

from __future__ import annotations

import ctypes
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

HUGE_BYTES: Final = 2 << 20
"""Of a huge page on x86-64, and on Arm with pages of 4 KiB."""
PAGE_BYTES: Final = 4 << 10
MOST_S: Final = 5.0
"""A host is not held up for longer: a model of many gigabytes keeps the rest of it in small pages."""
MOSTLY: Final = 0.75
"""So much of a huge page must be in use already: what was reserved for later, as the cache of keys and values is, stays
as it is."""
_COLLAPSE: Final = 25
"""`MADV_COLLAPSE`, since Linux 6.1."""
_PRESENT: Final = 1 << 63
_ENTRY_BYTES: Final = 8

Collapse = Callable[[int, int], bool]
"""Puts so many bytes from an address into one huge page; returns whether that was possible."""


def use_huge_pages(*, proc: Path = Path("/proc/self"), collapse: Collapse | None = None, most_s: float = MOST_S) -> int:
    """Put the memory of this process that is in use into huge pages; return the bytes that lie in them now.

    Takes about 5 ms for each of them; call it when what will be read again and again is there. May be called twice.
    Where the system knows no such thing, has no room, or is short of memory, the rest stays as it is.

    Args:
        proc: Where the system tells of this process.
        collapse: How it is done; for tests.
        most_s: None is begun after so many seconds.
    """
    if sys.platform != "linux" or _page_bytes() != PAGE_BYTES:
        return 0
    collapse = collapse or _collapse
    try:
        places = list(_in_use(proc))
    except OSError:
        return 0
    until_s = time.monotonic() + most_s
    return sum(HUGE_BYTES for address in places if time.monotonic() < until_s and collapse(address, HUGE_BYTES))


def _in_use(proc: Path) -> Iterator[int]:
    """Yield the addresses of huge pages' worth of memory of our own that are mostly in use."""
    pages = HUGE_BYTES // PAGE_BYTES
    with (proc / "maps").open() as maps, (proc / "pagemap").open("rb", buffering=0) as pagemap:
        for first, end in [_own_range(line) for line in maps]:
            for address in range(-(-first // HUGE_BYTES) * HUGE_BYTES, end - HUGE_BYTES + 1, HUGE_BYTES):
                pagemap.seek(address // PAGE_BYTES * _ENTRY_BYTES)
                entries = array("Q", pagemap.read(pages * _ENTRY_BYTES))
                if sum(entry >= _PRESENT for entry in entries) >= MOSTLY * pages:
                    yield address


def _own_range(line: str) -> tuple[int, int]:
    """Return from where to where a line of `maps` reaches; nothing where it is of a file, shared, or not written to."""
    words = line.split()
    if words[1][1:2] != "w" or words[1][3:4] != "p" or (len(words) > 5 and words[5].startswith("/")):
        return 0, 0
    first, _, end = words[0].partition("-")
    return int(first, 16), int(end, 16)


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _collapse(address: int, size: int) -> bool:
    return bool(_libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _COLLAPSE) == 0)
