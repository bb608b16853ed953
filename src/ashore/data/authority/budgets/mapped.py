"""Integers in a mapped file, shared by the processes of one machine: changes are atomic, even if a process dies.

A change is made under a lock that the kernel frees when its holder dies. It is first written to a journal, marked as
valid by one word, then applied, then unmarked. The next holder of the lock that finds the mark applies the change
again, which is idempotent. A mapped file outlives any process, but not the machine: the file of another boot is not
used.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from ashore.core.errors import DiskFull, EnvironmentFault
from ashore.kit.folders import make_folder
from ashore.kit.wholefile import opened

WORD: Final = 8
_MAGIC: Final = 0x4153484F42443031
MAX_WRITES: Final = 512
"""Words that one change may touch."""

_MARK: Final = 1
"""Word with the number of numbers in a valid journal; 0: there is none."""
_JOURNAL: Final = 8
START: Final = _JOURNAL + 2 * MAX_WRITES
"""First word that belongs to the user of the file."""
_TRY: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
_FREE: Final = fcntl.LOCK_UN


class Words(Protocol):
    """Operations of a memory of words."""

    def __getitem__(self, at: int, /) -> int: ...

    def __setitem__(self, at: Any, value: Any, /) -> None: ...


Wrap = Callable[["memoryview[int]"], Words]


def boot_number() -> int:
    """Return a number that differs after each start of the machine; 0 if the system has none."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text.replace("-", "").strip()[:15], 16)


class MappedWords:
    """One process's view of the file. Not thread-safe: each thread opens its own."""

    def __init__(
        self, folder: Path, *, num_words: int, fill: Callable[[Words], None], wrap: Wrap = lambda view: view
    ) -> None:
        """Open the file in `folder`, created if there is none of this boot.

        Args:
            folder: Created if missing, for its owner alone.
            num_words: Number of words for the user.
            fill: Called once for each file with its words, all zero, before any other process sees them.
            wrap: Wraps the memory; tests inject crashes here.

        Raises:
            DiskFull, EnvironmentFault: it cannot be made.
        """
        self.folder = folder
        self._flock = ctypes.PyDLL(None).flock
        self._flock.argtypes = (ctypes.c_int, ctypes.c_int)
        try:
            make_folder(folder, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise _ours(fault, folder) from fault
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._memory = self._open((START + num_words) * WORD, fill)
        except OSError as fault:
            os.close(self._lock)
            raise _ours(fault, folder) from fault
        except BaseException:
            os.close(self._lock)
            raise
        self._view = memoryview(self._memory).cast("q")
        self.words: Words = wrap(self._view)
        self.release()

    def acquire(self) -> None:
        """Take the lock, and finish an interrupted change. Not reentrant.

        It is nearly always free, so it is first tried without releasing the interpreter lock: releasing it would switch
        to a waiting thread, which costs a cached answer more than the rest of its budget check.
        """
        if self._flock(self._lock, _TRY):
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        if self.words[_MARK]:
            self._make()

    def release(self) -> None:
        """Release the lock."""
        self._flock(self._lock, _FREE)

    __enter__ = acquire

    def __exit__(self, *fault: object) -> None:
        self._flock(self._lock, _FREE)  # as `release`, without a call more on the way of a token

    def commit(self, writes: Sequence[int]) -> None:
        """Apply a change atomically: `writes` is a word's index, its new value, the next one's index, and so on.

        To be called with the lock. At most `MAX_WRITES` words.
        """
        words, length = self.words, len(writes)
        if length == 2:  # one word is written whole by the processor
            words[writes[0]] = writes[1]
            return
        assert length <= 2 * MAX_WRITES
        words[_JOURNAL : _JOURNAL + length] = array.array("q", writes)
        words[_MARK] = length
        for at in range(0, length, 2):
            words[writes[at]] = writes[at + 1]
        words[_MARK] = 0

    def bytes_at(self, word: int, length: int) -> bytes:
        """Return bytes that start at a word."""
        return bytes(self._memory[word * WORD : word * WORD + length])

    def close(self) -> None:
        """Release the memory and the lock, as the end of the process would. May be called twice."""
        if self._lock >= 0:
            self._view.release()
            self._memory.close()
            os.close(self._lock)
            self._lock = -1

    def _make(self) -> None:
        words = self.words
        for at in range(_JOURNAL, _JOURNAL + words[_MARK], 2):
            words[words[at]] = words[at + 1]
        words[_MARK] = 0

    def _open(self, num_bytes: int, fill: Callable[[Words], None]) -> mmap.mmap:
        path = self.folder / "words"
        if path.exists() and path.stat().st_size == num_bytes:
            memory = _map(path)
            with memoryview(memory).cast("q") as words:
                fits = words[0] == _MAGIC and words[2] == boot_number()
            if fits:
                return memory
            memory.close()
        scratch = self.folder / f".words.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        with opened(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL) as descriptor:
            _allocate(descriptor, num_bytes)  # a hole would end the process that writes there on a full disk
        memory = _map(scratch)
        with memoryview(memory).cast("q") as words:
            fill(words)
            words[2] = boot_number()
            words[0] = _MAGIC
        scratch.replace(path)
        return memory


def _map(path: Path) -> mmap.mmap:
    with opened(path, os.O_RDWR) as descriptor:
        return mmap.mmap(descriptor, 0)


def _allocate(descriptor: int, num_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)
        return
    piece = bytes(1 << 20)
    for at in range(0, num_bytes, len(piece)):
        os.pwrite(descriptor, piece[: num_bytes - at], at)


def _ours(fault: OSError, folder: Path) -> Exception:
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the disk is full; cannot write the budget ledger in {folder}", hint="free some space")
    return EnvironmentFault(f"{folder}: {fault.strerror}", hint="check that the directory is writable")
