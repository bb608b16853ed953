"""Disk space reserved for administration: a file that is emptied when the disk is full."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from ashore.kit.wholefile import opened

RESERVE_BYTES: Final = 8 << 20
"""Twice the write-ahead log of the state database, or the records of some thousand acts."""


class Reserve:
    """The file `reserve` of a directory. Several processes may use it at once; each call may be repeated."""

    def __init__(self, folder: Path, *, num_bytes: int = RESERVE_BYTES) -> None:
        self._path = folder / "reserve"
        self._num_bytes = num_bytes

    @property
    def is_spent(self) -> bool:
        """Whether it was released and not taken again. False if there never was one."""
        try:
            return self._path.stat().st_size < self._num_bytes
        except OSError:
            return False

    def make(self) -> None:
        """Create it, if the disk has twice its size free."""
        with suppress(OSError):
            self._path.touch(mode=0o600)
            self.take()

    def release(self) -> bool:
        """Release its space for other writers; return whether it had any."""
        with suppress(OSError):
            if self._path.stat().st_size:
                os.truncate(self._path, 0)
                return True
        return False

    def take(self) -> None:
        """Take it again if it was released, and the disk has twice its size free."""
        with suppress(OSError):
            disk = os.statvfs(self._path)
            if self.is_spent and disk.f_bavail * disk.f_frsize >= 2 * self._num_bytes:
                with opened(self._path, os.O_WRONLY) as file:
                    os.posix_fallocate(file, 0, self._num_bytes)
