"""In-memory node: the twin of the others. It can fail, fill up, be slow, and lie on request."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from ashore.control.backup.ports import Part
from ashore.core.errors import BackupDamaged, DiskFull, NodeUnavailable, NotFound


class MemoryNode:
    """Stores files in a dict. Unfinished files are invisible."""

    def __init__(self, place: str = "memory") -> None:
        self.place = place
        self.files: dict[str, bytes] = {}
        self.away = False
        self.room_bytes: int | None = None
        """Bytes that still fit; None: as many as you like."""
        self.slow_s = 0.0
        """Added to every reading and writing."""
        self.cut_after_bytes: int | None = None
        """After so many more bytes the node is away: cut off in the middle of a write."""
        self.system = f"fs-{place}"
        self._lock = threading.Lock()

    def prepare(self) -> None:
        self.check()

    def filesystem(self) -> str:
        self.check()
        return self.system

    def put(self, name: str) -> MemorySink:
        self.check()
        return MemorySink(self, name)

    def make(self, name: str, data: bytes) -> bool:
        self.check()
        with self._lock:
            if name in self.files:
                return False
            self.take(len(data))
            self.files[name] = data
            return True

    def open(self, name: str) -> MemorySource:
        self.check()
        if name not in self.files:
            raise NotFound(f"{self.place}/{name} does not exist")
        return MemorySource(self, name)

    def sizes(self, under: str) -> Mapping[str, int]:
        self.check()
        return {name: len(data) for name, data in self.files.items() if name.startswith(f"{under}/")}

    def remove(self, name: str) -> None:
        self.check()
        self.files.pop(name, None)

    def check(self) -> None:
        """Raise if the node is down; wait if it is slow."""
        if self.slow_s:
            time.sleep(self.slow_s)
        if self.away:
            raise NodeUnavailable(f"the node {self.place} is not available", hint="mount it, or start its machine")

    def take(self, num_bytes: int) -> None:
        """Count bytes that are written."""
        if self.cut_after_bytes is not None:
            self.cut_after_bytes -= num_bytes
            if self.cut_after_bytes < 0:
                self.away = True
                self.check()
        if self.room_bytes is not None:
            if num_bytes > self.room_bytes:
                raise DiskFull(f"the node {self.place} is full: {self.room_bytes} bytes free", hint="free some space")
            self.room_bytes -= num_bytes


class MemorySink:
    """See `Sink`."""

    def __init__(self, node: MemoryNode, name: str) -> None:
        self._node, self._name = node, name
        self._data = bytearray()

    def write(self, parts: Sequence[Part]) -> None:
        self._node.check()
        self._node.take(sum(len(part) for part in parts))
        for part in parts:
            self._data += part

    def finish(self) -> None:
        self._node.check()
        self._node.files[self._name] = bytes(self._data)

    def abort(self) -> None:
        self._data = bytearray()


class MemorySource:
    """See `Source`."""

    def __init__(self, node: MemoryNode, name: str) -> None:
        self._node, self._name = node, name
        self._data = node.files[name]

    @property
    def num_bytes(self) -> int:
        return len(self._data)

    def read_into(self, offset: int, parts: Sequence[memoryview]) -> None:
        self._node.check()
        for part in parts:
            piece = self._data[offset : offset + len(part)]
            if len(piece) != len(part):
                raise BackupDamaged(f"{self._node.place}/{self._name} ends at {len(self._data)} bytes; expected more")
            part[:] = piece
            offset += len(part)

    def close(self) -> None:
        return None
