"""Replaces a file atomically: a reader, or a crash, finds the old one or the new one, never a part."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace a file by `data`. On failure the old one is unchanged.

    Args:
        path: The file; its folder exists.
        data: New content.
        mode: Permissions of the new file.
        durable: Whether it survives a power loss once this returns. False: for files recreated at each start.

    Raises:
        OSError: the disk is full or failing, or there is a device, a pipe or a directory in its place.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "this is not a file that can be replaced", str(path))
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".tmp-{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


@contextmanager
def opened(path: str | Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    """Give a descriptor of a file or directory, as `os.open` returns it; it is closed in the end."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync a directory, so that created, renamed and deleted entries survive a power loss.

    Raises:
        OSError: the disk fails.
    """
    with opened(folder, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)
