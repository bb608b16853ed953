"""Moves a process's memory into huge pages, so that scattered memory costs nothing.

A token reads every weight. With 4 KiB pages each page needs an address look-up, which processors only save when
neighbouring pages are also adjacent in physical memory. Of two hosts of one model, the one with more scattered memory
was up to 14 % slower for its whole life (benchmarks/reports/2026-11-27-release.md).
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
    """Move this process's used memory into huge pages; return the bytes in huge pages now.

    Takes about 5 ms for each; call it when the data to be read repeatedly is loaded. May be called twice. If
    unsupported or short of memory, the rest is unchanged.

    Args:
        proc: The process's folder in /proc.
        collapse: How it is done; for tests.
        most_s: Time limit after which no further page is moved.
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
    """Yield the addresses of huge-page-sized ranges of private memory that are mostly in use."""
    pages = HUGE_BYTES // PAGE_BYTES
    with (proc / "maps").open() as maps, (proc / "pagemap").open("rb", buffering=0) as pagemap:
        for first, end in [_own_range(line) for line in maps]:
            for address in range(-(-first // HUGE_BYTES) * HUGE_BYTES, end - HUGE_BYTES + 1, HUGE_BYTES):
                pagemap.seek(address // PAGE_BYTES * _ENTRY_BYTES)
                entries = array("Q", pagemap.read(pages * _ENTRY_BYTES))
                if sum(entry >= _PRESENT for entry in entries) >= MOSTLY * pages:
                    yield address


def _own_range(line: str) -> tuple[int, int]:
    """Return the range of a line of `maps`; empty if it is file-backed, shared or read-only."""
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
