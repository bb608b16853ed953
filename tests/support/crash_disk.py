"""A disk that loses power: at one operation all stops, and what was not synced is dropped, cut short, or kept."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ashore.control.backup.disk import Disk

SURVIVING = 0.3
"""Part of the changes of names that reach the disk though nobody synced them: a file system owes nothing."""


class CrashDisk(Disk):
    """Remembers what is not durable yet, and how to undo it."""

    def __init__(self, graveyard: Path) -> None:
        self.operations = 0
        self.stop_at: int | None = None
        self._graveyard = graveyard
        self._undo: list[tuple[Path, Callable[[], None]]] = []
        self._inodes: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._lock = threading.Lock()
        graveyard.mkdir(parents=True, exist_ok=True)

    def create(self, path: Path) -> int:
        self._count()
        descriptor = super().create(path)
        self._inodes[descriptor] = os.fstat(descriptor).st_ino
        self._changed(path, lambda: path.unlink(missing_ok=True))
        return descriptor

    def write(self, descriptor: int, parts: Sequence[bytes | memoryview]) -> None:
        self._count()
        self._dirty.add(self._inodes[descriptor])
        super().write(descriptor, parts)

    def sync(self, descriptor: int) -> None:
        self._count()
        self._dirty.discard(self._inodes[descriptor])

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        before = self._kept(new)
        super().rename(old, new)
        self._changed(new, lambda: _put(before, new))

    def link(self, old: Path, new: Path) -> None:
        self._count()
        super().link(old, new)
        self._changed(new, lambda: new.unlink(missing_ok=True))

    def unlink(self, path: Path) -> None:
        self._count()
        before = self._kept(path)
        super().unlink(path)
        self._changed(path, lambda: _put(before, path))

    def mkdir(self, path: Path) -> None:
        self._count()
        super().mkdir(path)
        self._changed(path, lambda: shutil.rmtree(path, ignore_errors=True))

    def sync_folder(self, path: Path) -> None:
        self._count()
        with self._lock:
            self._undo = [one for one in self._undo if one[0] != path]

    def lose_power(self, roots: Sequence[Path], rng: random.Random) -> None:
        """Leave on the disk what a loss of power may leave."""
        for _, undo in reversed(self._undo):
            if rng.random() >= SURVIVING:
                undo()
        for path in (path for root in roots for path in root.rglob("*") if path.is_file()):
            if path.stat().st_ino in self._dirty:
                os.truncate(path, rng.randrange(path.stat().st_size + 1))

    def _count(self) -> None:
        with self._lock:
            self.operations += 1
            if self.stop_at is not None and self.operations >= self.stop_at:
                raise OSError(errno.EIO, "the power is lost")

    def _changed(self, path: Path, undo: Callable[[], None]) -> None:
        with self._lock:
            self._undo.append((path.parent, undo))

    def _kept(self, path: Path) -> Path | None:
        """Keep a second name of a file that is to lose its first."""
        if not path.exists():
            return None
        with self._lock:
            copy = self._graveyard / str(len(os.listdir(self._graveyard)))
            os.link(path, copy)
        return copy


def _put(before: Path | None, path: Path) -> None:
    path.unlink(missing_ok=True)
    if before is not None and path.parent.is_dir():
        os.link(before, path)
