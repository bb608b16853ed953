"""The clear files of a sealed model: in memory only, by name, while they are needed.

Each file is an anonymous memory file (memfd_create), which is on no file system, cannot be changed once it is written,
and is gone when the last process that has it ends, however that ends. An engine finds them by name through a folder of
links to `/proc/<pid>/fd/<n>`, maps them as it maps any file, and holds one copy in memory, not two.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from ashore.core.bytesize import human_bytes
from ashore.core.errors import EnvironmentFault, MemoryFull, SealingKeyMissing
from ashore.kit.folders import make_folder
from ashore.kit.processes import free_memory_bytes
from ashore.kit.sealing.chunks import KEY_BYTES
from ashore.kit.sealing.datakeys import DataKey
from ashore.kit.sealing.ownfolder import OwnFolder, sweep
from ashore.kit.sealing.sealedfile import open_file

FOLDER_PREFIX: Final = ".clear-"
SPARE_BYTES: Final = 64 << 20
"""Memory that stays free beside the clear files: what an engine needs at the least."""
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8
"""F_SEAL_SEAL, SHRINK, GROW and WRITE of fcntl(2)."""


class SealedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sealed file of a model."""

    path: str
    """Relative, as engines look for it."""
    blob: str
    """Absolute path of the sealed bytes."""
    salt: str
    """Hexadecimal, as the model's sheet tells it."""
    clear_bytes: int


class SealedFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything to open a sealed model. Has no key, only its location while the giving process lives."""

    reference: str
    key_id: str
    key_file: str
    """The data key of this model, in the memory of the process that gives it: `/proc/<pid>/fd/<n>`."""
    folder: str
    """Under which the folder of links is made."""
    files: tuple[SealedFile, ...]


class KeyInMemory:
    """A data key as a memory file, readable by processes of the same user while this one lives."""

    def __init__(self, key: DataKey) -> None:
        self._descriptor = _memory_file(KEY_BYTES)
        os.pwrite(self._descriptor, key.secret, 0)
        _make_immutable(self._descriptor)
        self._end = weakref.finalize(self, os.close, self._descriptor)

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Erase the key. May be called twice."""
        self._end()


def take_key(sealed: SealedFiles) -> DataKey:
    """Return the data key that another process provides.

    Raises:
        SealingKeyMissing: that process has ended, or this one may not see it.
    """
    return read_key(sealed.key_file, sealed.key_id, what=f"{sealed.reference} is sealed")


def read_key(path: str, key_id: str, *, what: str) -> DataKey:
    """Return a data key that another process holds (`KeyInMemory`). Raises `SealingKeyMissing` if it is gone."""
    try:
        with open(path, "rb") as file:
            secret = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise SealingKeyMissing(
            f"{what}, and the key is not at {path}: {error.strerror}",
            hint="the process that held it has ended; restart `ashore up`",
        ) from error
    if len(secret) != KEY_BYTES:
        raise SealingKeyMissing(
            f"{what}, and {path} has {len(secret)} bytes instead of a key of {KEY_BYTES}",
            hint="the process that held the key has ended; restart `ashore up`",
        )
    return DataKey(key_id=key_id, secret=secret)


class ClearFiles:
    """A folder with the clear files of one sealed model."""

    def __init__(
        self,
        sealed: SealedFiles,
        key: DataKey,
        *,
        only: Callable[[SealedFile], bool] = lambda file: True,
        writable: bool = False,
    ) -> None:
        """Open the files, or those that `only` chooses.

        Args:
            sealed: What to open.
            key: Its data key.
            only: Which files.
            writable: Leave the memory writable, for readers that map a file to write though they never do (OpenVINO's
                reader of GGUF).

        Raises:
            CorruptBlob: a chunk was altered; names file and chunk.
            MemoryFull: there is not enough memory; the message has both numbers.
        """
        chosen = [file for file in sealed.files if only(file)]
        refuse_without_memory(sum(f.clear_bytes for f in chosen), what=sealed.reference)
        root = Path(sealed.folder)
        sweep(root, FOLDER_PREFIX)
        self._writable = writable
        self._descriptors: dict[str, int] = {}
        self._end = weakref.finalize(self, _close_all, self._descriptors)
        try:
            make_folder(root, mode=0o700)
            self._folder = OwnFolder(root, FOLDER_PREFIX)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot create a directory of links under {root}: {error.strerror}", hint="free some space"
            ) from error
        try:
            for file in chosen:
                self._add(file, key, sealed.reference)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The folder; engines read it and write nothing."""
        return self._folder.path

    def drop(self, paths: Iterable[str]) -> None:
        """Release some files: existing mappings stay valid, but the files can no longer be found."""
        for path in paths:
            if path in self._descriptors:
                (self.path / path).unlink(missing_ok=True)
                os.close(self._descriptors.pop(path))

    def close(self) -> None:
        """Release all. May be called twice; also happens at the end of the process."""
        self._end()
        self._folder.close()

    def _add(self, file: SealedFile, key: DataKey, reference: str) -> None:
        descriptor = self._descriptors[file.path] = _memory_file(file.clear_bytes)
        try:
            open_file(
                Path(file.blob), descriptor, key, salt=bytes.fromhex(file.salt), what=f"{file.path} of {reference}"
            )
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.ENOSPC):
                raise EnvironmentFault(
                    f"{file.path} of {reference} cannot be opened: {error.strerror}",
                    hint=f"check that {file.blob} is readable",
                ) from error
            raise MemoryFull(
                f"not enough memory for {file.path} of {reference}", hint="stop another program first"
            ) from error
        if not self._writable:
            _make_immutable(descriptor)
        link = self.path / file.path
        make_folder(link.parent)
        link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")


@contextlib.contextmanager
def opened_files(sealed: SealedFiles) -> Iterator[ClearFiles]:
    """Open a sealed model for any reader with the key of its giver, and close it at the end of the block."""
    with closing(ClearFiles(sealed, take_key(sealed), writable=True)) as clear:
        yield clear


def refuse_without_memory(num_bytes: int, *, what: str) -> None:
    """Raise `MemoryFull` unless this process may take so many bytes more."""
    free = free_memory_bytes()
    if num_bytes + SPARE_BYTES > free:
        raise MemoryFull(
            f"{what} is sealed and needs {human_bytes(num_bytes)} of memory when opened; {human_bytes(free)} are free",
            hint="stop another program first, serve a smaller variant, or unseal the model: ashore model unseal",
        )


def swap_in_use(swaps: Path = Path("/proc/swaps")) -> tuple[str, ...]:
    """Return the swap areas of this machine, to which memory may be written."""
    with contextlib.suppress(OSError):
        areas = [line.split()[0] for line in swaps.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
        return tuple(area for area in areas if "zram" not in area)
    return ()


def _memory_file(num_bytes: int) -> int:
    if not hasattr(os, "memfd_create"):
        raise EnvironmentFault(
            "sealed models need in-memory files (memfd), which this system does not support", hint="serve them on Linux"
        )
    descriptor = os.memfd_create("ashore", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(descriptor, 0o600)
    os.ftruncate(descriptor, num_bytes)
    return descriptor


def _make_immutable(descriptor: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


def _close_all(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
