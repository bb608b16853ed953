"""Locks among processes: `flock` on a file, which the kernel releases when its holder ends. One of them restricts a
home to one supervisor.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ashore.core.errors import AshoreError, HomeBusy
from ashore.kit.processes.room import room_needed
from ashore.kit.wholefile import opened


@contextmanager
def locked(path: Path, busy: Callable[[], AshoreError] | None = None, *, flags: int = 0) -> Iterator[int]:
    """Hold the lock of a file, which is made where it is missing, and yield its descriptor.

    Waits for it; with `busy`, raises that error while another process has it. `flags`: further ones to open it with.
    """
    with opened(path, os.O_RDWR | os.O_CREAT | flags) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as fault:
            assert busy is not None
            raise busy() from fault
        yield descriptor


def try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a file until it is closed; None while another process has it. The file
    is made where it is missing."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Holder of a home. Written into the lock file for people; it is not the lock itself."""

    pid: int
    address: str
    """`http://127.0.0.1:8080`, or what the holder does."""


class HomeLock:
    """Held from `acquire` until `release` or the end of the process; children do not inherit it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, holder: Holder) -> HomeLock:
        """Take the lock or report its holder. Never waits.

        Raises:
            HomeBusy: another live process holds it; the message names its pid and address.
            DiskFull: there is no space to write the holder.
        """
        with room_needed(path):
            descriptor = try_lock(path)
        if descriptor is None:
            other = read_holder(path)
            who = f"process {other.pid} ({other.address})" if other else "another process"
            raise HomeBusy(
                f"the home {path.parent} is in use by {who}",
                hint="stop that process, or use another home with ASHORE_HOME",
            )
        try:
            with room_needed(path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(asdict(holder)).encode())
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Release the lock. May be called twice."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(path: Path) -> bool:
    """Return whether a live process holds the home of a lock file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_holder(path: Path) -> Holder | None:
    """Return what the last holder wrote, or None. Use `acquire` to find out whether it still holds the lock."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        told = json.loads(path.read_text())
        return Holder(pid=int(told["pid"]), address=str(told["address"]))
    return None
