"""Full disks: translates the system's error into one with advice."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ashore.core.errors import DiskFull


@contextmanager
def room_needed(path: Path) -> Iterator[None]:
    """Translate "no space left" or an exceeded quota, while writing `path`, into `DiskFull`."""
    try:
        yield
    except OSError as fault:
        if is_no_room(fault):
            raise no_room(fault, str(path)) from fault
        raise


def is_no_room(fault: OSError) -> bool:
    """Return whether this is the system's error for a full disk or an exceeded quota."""
    return fault.errno in (errno.ENOSPC, errno.EDQUOT)


def no_room(fault: OSError, path: str = "") -> DiskFull:
    """Return the error for a write of `path` on a full disk; default: the file that the system names."""
    return DiskFull(
        f"no space left to write {path or fault.filename or 'a file'}: {fault.strerror}",
        hint="free some space on that disk (`ashore model gc` removes unused blobs), then run the command again",
    )
