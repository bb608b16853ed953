"""The few calls that change a directory, as one object, so that tests can lose unsynced data."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

from ashore.kit.wholefile import sync_folder

FLUSH_BYTES: Final = 8 << 20
_MOST_PARTS: Final = 512
"""Of one call; the system's own limit is 1024."""


class Disk:
    """The operating system's disk. Every method raises `OSError`."""

    def create(self, path: Path) -> int:
        """Make a new file (0600), and return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, parts: Sequence[bytes | memoryview]) -> None:
        """Add bytes at the end."""
        left = [memoryview(part) for part in parts if len(part)]
        while left:
            written = os.writev(descriptor, left[:_MOST_PARTS])
            while left and written >= len(left[0]):
                written -= len(left[0])
                left.pop(0)
            if left:
                left[0] = left[0][written:]

    def begin_writing_out(self, descriptor: int, offset: int, num_bytes: int) -> None:
        """Start writing back a part of a file, so that a later sync waits less. Does not wait, and guarantees
        nothing.
        """
        if _sync_file_range is not None:
            _sync_file_range(descriptor, offset, num_bytes, _SYNC_FILE_RANGE_WRITE)

    def sync(self, descriptor: int) -> None:
        """Return when the file's data survives a power loss."""
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, replacing an existing one."""
        os.replace(old, new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name. Raises `FileExistsError` if it is taken."""
        os.link(old, new)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def mkdir(self, path: Path) -> None:
        os.mkdir(path, 0o700)

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder survive a power loss."""
        sync_folder(path)


class Flusher:
    """Starts writing back a long file while it grows, so that the final sync is short."""

    def __init__(self, descriptor: int, disk: Disk) -> None:
        self._descriptor = descriptor
        self._disk = disk
        self._begun = 0
        self._written = 0

    def wrote(self, num_bytes: int) -> None:
        """Record that the file has grown."""
        self._written += num_bytes
        if self._written - self._begun >= FLUSH_BYTES:
            self._disk.begin_writing_out(self._descriptor, self._begun, self._written - self._begun)
            self._begun = self._written


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Return sync_file_range(2) of Linux, which Python does not wrap; without it a sync writes everything at
    the end.
    """
    if sys.platform != "linux":
        return None
    try:
        found = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return cast(Callable[[int, int, int, int], int], found)


_SYNC_FILE_RANGE_WRITE: Final = 2
_sync_file_range: Final = _find_sync_file_range()
