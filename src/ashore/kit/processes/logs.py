"""Log files of children: each child appends to its own, and the supervisor rotates them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ashore.kit.folders import make_folder

MAX_LOG_BYTES: Final = 16 << 20
MOST_READ_BYTES: Final = 64 << 20
KEPT: Final = 3
"""Older files beside the current one: `.1` is the youngest."""


def open_log(path: Path) -> int:
    """Return a descriptor that appends to `path`, made with mode 0600 if absent."""
    make_folder(path.parent, mode=0o700)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def rotate(path: Path, *, max_bytes: int = MAX_LOG_BYTES, kept: int = KEPT) -> bool:
    """Empty a log that is too long in place, and move its content to `.1`; return whether that was done.

    The child goes on writing to the same file, which it opened for appending. The log is emptied before `.1` is
    written, so that this takes no room on a full disk. Lines written between the reading and the emptying are lost:
    some milliseconds once in 16 MiB, for which no child has to reopen anything. Of a log that grew too fast, the last
    `MOST_READ_BYTES` are kept.

    Raises:
        OSError: a file cannot be read or written; if the log was emptied, the child has room to continue.
    """
    try:
        size = path.stat().st_size
        if size < max_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    with open(path, "r+b") as file:
        file.seek(max(0, size - MOST_READ_BYTES))
        text = file.read()
        file.truncate(0)
    descriptor = os.open(path.with_name(f"{path.name}.1"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    return True


def tail(path: Path, *, lines: int = 12, max_bytes: int = 8192) -> str:
    """Return the last lines of a log for messages; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - max_bytes))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
