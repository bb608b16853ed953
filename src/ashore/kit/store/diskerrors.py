"""Translates disk errors of the operating system into ashore's errors."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ashore.core.bytesize import human_bytes
from ashore.core.errors import DiskFull, EnvironmentFault


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Translate "no space left" and an exceeded quota into `DiskFull`, and "read-only" and the like into plain
    words.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            full = "is full" if error.errno == errno.ENOSPC else f"cannot grow ({os.strerror(error.errno or 0)})"
            raise DiskFull(
                f"the disk that holds {where} {full}: {free_text(where)}",
                hint="free some space (`ashore model gc` may help) and run the same command again; it resumes",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and error.filename is not None:
            raise EnvironmentFault(
                f"cannot write {error.filename}: {os.strerror(error.errno or 0)}",
                hint="run as the user who owns the home, or set ASHORE_HOME to a directory that you own",
            ) from error
        raise


def free_text(where: Path) -> str:
    """Return the free space of the file system that holds `where`, for people."""
    probe = where
    while not probe.exists() and probe != probe.parent:
        probe = probe.parent
    return f"{human_bytes(shutil.disk_usage(probe).free)} free"
