"""Log files of children: each child appends to its own, and the supervisor keeps them from growing for ever."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

MAX_LOG_BYTES: Final = 16 << 20
KEPT: Final = 3
"""Older files beside the current one: `.1` is the youngest."""


def open_log(path: Path) -> int:
    """Return a descriptor that appends to `path`, made with mode 0600 if absent."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def rotate(path: Path, *, max_bytes: int = MAX_LOG_BYTES, kept: int = KEPT) -> bool:
    """Copy a log that is too long to `.1` and empty it in place; return whether that was done.

    The child goes on writing to the same file, which it opened for appending. Lines written between the copy and the
    emptying are lost: some microseconds once in 16 MiB, for which no child has to reopen anything.
    """
    try:
        if path.stat().st_size < max_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    target = path.with_name(f"{path.name}.1")
    shutil.copyfile(path, target)
    target.chmod(0o600)
    os.truncate(path, 0)
    return True


def tail(path: Path, *, lines: int = 12, max_bytes: int = 8192) -> str:
    """Return the last lines of a log, for messages; empty when there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - max_bytes))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
