"""Folders that end with the process that made them, or, where that was killed, with the next one that looks."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
import weakref
from pathlib import Path
from typing import Final

YOUNG_S: Final = 60.0
"""A folder so young is left alone: its maker may not have locked it yet."""


class OwnFolder:
    """A folder of mode 0700 under an unguessable name, locked while this process lives."""

    def __init__(self, root: Path, prefix: str) -> None:
        """Make the folder. Raises `OSError` where it cannot be made."""
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._end = weakref.finalize(self, _remove, self.path, descriptor, os.getpid())

    def close(self) -> None:
        """Delete the folder. May be called twice; happens at the end of the process too."""
        self._end()


def sweep(root: Path, prefix: str, *, now_s: float | None = None) -> int:
    """Delete the folders of killed processes of this user under `root`; return how many.

    Links, and what belongs to others, are left alone.
    """
    now_s = time.time() if now_s is None else now_s
    swept = 0
    for path in root.glob(f"{prefix}*") if root.is_dir() else ():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # a link, a file, or gone meanwhile
            continue
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode) or now_s - found.st_ctime < YOUNG_S:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
            swept += 1
        except BlockingIOError:  # its process lives
            continue
        finally:
            os.close(descriptor)
    return swept


def _remove(path: Path, descriptor: int, pid: int) -> None:
    if os.getpid() != pid:  # a fork must not take it away from its parent
        return
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)
