"""What the logs of a home and of the kernel say of faults. Lines are matched; nothing of a request is kept."""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from ashore.control.doctor.readings import Log

MOST_BYTES: Final = 4 << 20
"""Of the end of each log."""
_WHEN: Final = re.compile(r"^(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)")
_MEMORY: Final = re.compile(
    r"(CUDA out of memory|OutOfMemoryError|\bMemoryError\b|std::bad_alloc|Cannot allocate memory|"
    r"DefaultCPUAllocator: can't allocate)"
)
_GPU: Final = re.compile(r"NVRM: (Xid[^\n]{0,160})")
_DISK: Final = re.compile(r"((?:EXT4-fs|XFS|BTRFS|Buffer I/O|blk_update_request: I/O|I/O) error[^\n]{0,160})")


def read_logs(logs: Path, runs: Path, *, since_s: float, kernel: bool = True) -> Log:
    """Return what was said since a moment, seconds since 1970.

    Args:
        logs: Folder with a log for each process.
        runs: Folder with the logs of trainings.
        since_s: Older lines are left out.
        kernel: Whether the kernel's messages are read, too; it lets root read them alone.
    """
    memory: list[str] = []
    tracebacks: dict[str, int] = {}
    for path in sorted(logs.glob("*.log")):
        if path.stem == "edge":
            continue  # its lines quote the paths that strangers ask for
        lines = _lines_since(path, since_s)
        if number := sum(line.startswith("Traceback (most recent call last)") for line in lines):
            tracebacks[path.name] = number
        if found := next((match for line in reversed(lines) if (match := _MEMORY.search(line))), None):
            memory.append(f"{path.stem}: {found[1]}")
    training = [
        f"{path.parent.name}: {found[1]}"
        for path in sorted(runs.glob("*/*.log"))
        if (found := next((m for line in _lines_since(path, since_s) if (m := _MEMORY.search(line))), None))
    ]
    said = kernel_lines(since_s) if kernel else []
    return Log(
        out_of_memory=tuple(memory),
        training_out_of_memory=tuple(training),
        tracebacks=tracebacks,
        gpu_faults=tuple(found[1] for line in said if (found := _GPU.search(line))),
        disk_faults=tuple(found[1] for line in said if (found := _DISK.search(line))),
    )


def _lines_since(path: Path, since_s: float) -> list[str]:
    """Return the last lines of a log. One without a time belongs to the line before it."""
    try:
        told = path.stat()
        if not stat.S_ISREG(told.st_mode) or told.st_mtime < since_s:  # a pipe would be waited for
            return []
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    kept: list[str] = []
    recent = not any(_WHEN.match(line) for line in lines)
    for line in lines:
        if when := _WHEN.match(line):
            # written by `logging`, in the time zone of this machine
            with suppress(ValueError, OverflowError):
                recent = datetime.fromisoformat(when[1]).timestamp() >= since_s
        if recent:
            kept.append(line)
    return kept


def kernel_lines(since_s: float) -> list[str]:
    """Return the kernel's messages since a moment; none where this user may not read them."""
    found: list[str] = []
    boot_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        while len(found) < 100_000:
            try:
                text = os.read(descriptor, 8192).decode("utf-8", "replace")
            except BlockingIOError:
                break
            except OSError:
                continue  # a message was overwritten while it was read
            head, _, line = text.partition(";")
            columns = head.split(",")
            if len(columns) > 2 and columns[2].isdigit() and boot_s + int(columns[2]) / 1e6 >= since_s:
                found.append(line.partition("\n")[0])
    finally:
        os.close(descriptor)
    return found
