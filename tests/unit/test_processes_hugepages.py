"""What lies in huge pages afterwards: memory of our own that is in use, and nothing that was only reserved."""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

import pytest

from ashore.kit.processes.hugepages import use_huge_pages

HUGE = 2 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux" or mmap.PAGESIZE != 4096, reason="Linux with pages of 4 KiB")


def told(folder: Path, maps: list[tuple[int, int, str, str]], present: dict[int, int]) -> Path:
    """Write what the system tells: ranges with rights and names, and how many pages of each huge one are in use."""
    lines = [f"{first:x}-{end:x} {rights} 00000000 00:00 0 {name}".rstrip() for first, end, rights, name in maps]
    (folder / "maps").write_text("\n".join(lines) + "\n")
    with (folder / "pagemap").open("wb") as pagemap:
        for address, pages in present.items():
            pagemap.seek(address // 4096 * 8)
            pagemap.write(struct.pack("<512Q", *(1 << 63 | 7 if at < pages else 0 for at in range(512))))
    return folder


def test_whole_parts_in_use_of_our_own_memory_and_nothing_else(tmp_path: Path) -> None:
    base = 64 * HUGE
    maps = [
        (base - 4096, base + 4 * HUGE + 8192, "rw-p", ""),
        (base + 8 * HUGE, base + 10 * HUGE, "r--p", ""),
        (base + 16 * HUGE, base + 18 * HUGE, "rw-s", "/dev/shm/board"),
        (base + 24 * HUGE, base + 26 * HUGE, "rw-p", "/usr/lib/some.so"),
        (base + 32 * HUGE, base + 33 * HUGE, "rw-p", "[heap]"),
        (base + 40 * HUGE + 4096, base + 41 * HUGE, "rw-p", ""),
    ]
    present = {base: 512, base + HUGE: 383, base + 2 * HUGE: 384, base + 3 * HUGE: 0}
    present |= {base + n * HUGE: 512 for n in (8, 16, 24, 32, 40)}
    proc, seen = told(tmp_path, maps, present), []

    def collapse(address: int, size: int) -> bool:
        seen.append((address - base) / HUGE)
        return address != base + 32 * HUGE

    assert use_huge_pages(proc=proc, collapse=collapse) == 2 * HUGE, "two of the three could be put"
    assert seen == [0, 2, 32]


def test_a_large_model_is_not_held_up(tmp_path: Path) -> None:
    base, seen = 64 * HUGE, []
    proc = told(tmp_path, [(base, base + 4 * HUGE, "rw-p", "")], {base + n * HUGE: 512 for n in range(4)})

    def slow(address: int, _size: int) -> bool:
        time.sleep(0.03)
        seen.append(address)
        return True

    assert use_huge_pages(proc=proc, collapse=slow, most_s=0.05) == len(seen) * HUGE
    assert 1 <= len(seen) < 4


def test_where_the_system_does_not_tell_nothing_happens(tmp_path: Path) -> None:
    assert use_huge_pages(proc=tmp_path) == 0


def test_the_system_does_it_and_the_bytes_stay() -> None:
    with mmap.mmap(-1, 8 * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = bytes(range(256)) * (8 * HUGE // 256)
        before = huge_kib()
        put = use_huge_pages()
        if not put:
            pytest.skip("this system has no MADV_COLLAPSE, or no room")
        assert huge_kib() >= before + 7 * HUGE // 1024
        assert memory[:] == bytes(range(256)) * (8 * HUGE // 256)
        assert use_huge_pages() >= 7 * HUGE, "a second time changes nothing"


def huge_kib() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("AnonHugePages"))
