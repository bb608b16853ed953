"""A node that is a directory: a disk of this machine, or a mount of another one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ashore.control.backup.disk import Disk, Flusher
from ashore.control.backup.ports import Part
from ashore.core.bytesize import human_bytes
from ashore.core.errors import BackupDamaged, DiskFull, NodeUnavailable, NotFound

SCRATCH: Final = "tmp"


class DirectoryNode:
    """Files are written under `tmp/`, flushed, and renamed; then the folder is flushed."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._root = root
        self._disk = disk or Disk()
        self._made: set[Path] = set()

    @property
    def place(self) -> str:
        return str(self._root)

    def prepare(self) -> None:
        with self._translated(""):
            missing = [self._root, *self._root.parents]
            for folder in reversed([one for one in missing if not one.exists()]):
                self._disk.mkdir(folder)
                self._disk.sync_folder(folder.parent)

    def filesystem(self) -> str:
        with self._translated(""):
            found = os.statvfs(self._root).f_fsid
        return f"{found:x}" if found else ""

    def put(self, name: str) -> DirectorySink:
        with self._translated(name):
            return DirectorySink(self, name, self._scratch())

    def make(self, name: str, data: bytes) -> bool:
        sink = self.put(name)
        try:
            sink.write([data])
            return sink.finish_new()
        finally:
            sink.abort()

    def open(self, name: str) -> DirectorySource:
        with self._translated(name):
            return DirectorySource(self, name, os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC))

    def sizes(self, under: str) -> Mapping[str, int]:
        found: dict[str, int] = {}
        with self._translated(under):
            self._check_root()
            for folder, _, names in os.walk(self._root / under):
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        found[path.relative_to(self._root).as_posix()] = path.stat().st_size
        return found

    def remove(self, name: str) -> None:
        with self._translated(name), contextlib.suppress(FileNotFoundError):
            self._disk.unlink(self._root / name)
            self._disk.sync_folder((self._root / name).parent)

    def clear_scratch(self) -> None:
        """Delete the remains of writers that died. Call it when there is no writer."""
        for name in self.sizes(SCRATCH):
            self.remove(name)

    def _scratch(self) -> Path:
        self._check_root()
        self._folder(self._root / SCRATCH)
        return self._root / SCRATCH / secrets.token_hex(8)

    def _check_root(self) -> None:
        if not self._root.is_dir():
            raise NodeUnavailable(f"the node {self.place} is not available", hint="mount it, or start its machine")

    def _folder(self, path: Path) -> None:
        """Create a folder below the root, with its parents; durable on return."""
        if path in self._made or path == self._root:
            return
        self._folder(path.parent)
        with contextlib.suppress(FileExistsError):
            self._disk.mkdir(path)
        self._disk.sync_folder(path.parent)
        self._made.add(path)

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        where = f"{self.place}/{name}" if name else self.place
        try:
            yield
        except FileNotFoundError as fault:
            self._check_root()
            raise NotFound(f"{where} does not exist", hint="check the node") from fault
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"the node {self.place} is full: {self._free()}",
                    hint="free some space there, or move it to a larger disk: ashore backup replace",
                ) from fault
            raise NodeUnavailable(
                f"the node {self.place} does not work: {where}: {os.strerror(fault.errno or 0)}",
                hint="check its disk; what it misses is rebuilt when it is back",
            ) from fault

    def _free(self) -> str:
        try:
            disk = os.statvfs(self._root)
        except OSError:
            return "its free space is unknown"
        return f"{human_bytes(disk.f_bavail * disk.f_frsize)} free"


class DirectorySink:
    """See `Sink`."""

    def __init__(self, node: DirectoryNode, name: str, scratch: Path) -> None:
        self._node, self._name, self._scratch = node, name, scratch
        self._descriptor = node._disk.create(scratch)
        self._flusher = Flusher(self._descriptor, node._disk)

    def write(self, parts: Sequence[Part]) -> None:
        with self._node._translated(self._name):
            self._node._disk.write(self._descriptor, parts)
            self._flusher.wrote(sum(len(part) for part in parts))

    def finish(self) -> None:
        with self._node._translated(self._name):
            target = self._sync()
            self._node._disk.rename(self._scratch, target)
            self._node._disk.sync_folder(target.parent)

    def finish_new(self) -> bool:
        """Finish, unless there is a file of this name; return whether it was created."""
        with self._node._translated(self._name):
            target = self._sync()
            try:
                self._node._disk.link(self._scratch, target)
            except FileExistsError:
                return False
            self._node._disk.sync_folder(target.parent)
            return True

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self._node._disk.unlink(self._scratch)

    def _sync(self) -> Path:
        self._node._disk.sync(self._descriptor)
        self._close()
        target = self._node._root / self._name
        self._node._folder(target.parent)
        return target

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class DirectorySource:
    """See `Source`."""

    def __init__(self, node: DirectoryNode, name: str, descriptor: int) -> None:
        self._node, self._name, self._descriptor = node, name, descriptor
        self.num_bytes = os.fstat(descriptor).st_size

    def read_into(self, offset: int, parts: Sequence[memoryview]) -> None:
        left = [part for part in parts if len(part)]
        with self._node._translated(self._name):
            while left:
                read = os.preadv(self._descriptor, left, offset)
                if read == 0:
                    raise BackupDamaged(f"{self._node.place}/{self._name} ends at {offset} bytes; expected more")
                offset += read
                while left and read >= len(left[0]):
                    read -= len(left[0])
                    left.pop(0)
                if left:
                    left[0] = left[0][read:]

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
