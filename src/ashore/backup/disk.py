"""The few calls by which a directory changes, as one object, so that a test can lose what was not synced."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

FLUSH_BYTES: Final = 32 << 20
_MOST_PARTS: Final = 512
"""Of one call; the system's own limit is 1024."""


class Disk:
    """The operating system's. Every method raises `OSError`."""

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

    def sync(self, descriptor: int) -> None:
        """Return when what was written to the file survives a loss of power."""
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, in place of what had it."""
        os.replace(old, new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name. Raises `FileExistsError` where that is taken."""
        os.link(old, new)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def mkdir(self, path: Path) -> None:
        os.mkdir(path, 0o700)

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder survive a loss of power."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Flusher:
    """Flushes a long file while it grows, in a thread of its own, so that its end does not wait for all of it."""

    def __init__(self, descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
        self._descriptor = descriptor
        self._sync = sync
        self._unsynced = 0
        self._thread: threading.Thread | None = None

    def wrote(self, num_bytes: int) -> None:
        """Hear that the file has grown."""
        self._unsynced += num_bytes
        if self._unsynced >= FLUSH_BYTES and (self._thread is None or not self._thread.is_alive()):
            self._unsynced = 0
            self._thread = threading.Thread(target=self._flush, name="backup-flush", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Return when no thread uses the descriptor any more. What is on disk then, a sync of your own must tell."""
        if self._thread is not None:
            self._thread.join()

    def _flush(self) -> None:
        with suppress(OSError):  # the sync at the end of the file fails for the same reason, and is heard
            self._sync(self._descriptor)
