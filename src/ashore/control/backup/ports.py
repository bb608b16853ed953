"""Ports of backups: storage nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Protocol

from ashore.core.errors import BackupDamaged

Part = bytes | memoryview


class Sink(Protocol):
    """A file of a node being written. Used by one thread at a time."""

    def write(self, parts: Sequence[Part]) -> None:
        """Add bytes at the end.

        Raises:
            DiskFull: the node is full.
            NodeUnavailable: the node is down, or refuses.
        """
        ...

    def finish(self) -> None:
        """Publish the complete file under its name; durable on return. Raises as `write`; the file does not appear
        then.
        """
        ...

    def abort(self) -> None:
        """Discard the written data. May be called twice, and after `finish`, when it does nothing; never raises."""
        ...


class Source(Protocol):
    """A file of a node open for reading. Used by one thread at a time."""

    @property
    def num_bytes(self) -> int: ...

    def read_into(self, offset: int, parts: Sequence[memoryview]) -> None:
        """Fill the parts in sequence, from `offset` on.

        Raises:
            BackupDamaged: the file ends before.
            NodeUnavailable: the node is down, or refuses.
        """
        ...

    def close(self) -> None: ...


class Node(Protocol):
    """Storage for shards. Names are relative paths with `/`. Thread-safe.

    Every method raises `NodeUnavailable` if the place is missing (an unmounted disk, a server that is down); only
    `prepare` creates it.
    """

    @property
    def place(self) -> str:
        """Where it is, as an operator writes it."""
        ...

    def prepare(self) -> None:
        """Create the place if it is missing. May be called twice."""
        ...

    def filesystem(self) -> str:
        """Return the identity of its file system; empty if it has none."""
        ...

    def put(self, name: str) -> Sink:
        """Start a file. It appears under its name only when finished, replacing an existing one."""
        ...

    def make(self, name: str, data: bytes) -> bool:
        """Create a small file unless one of this name exists: of two callers, one gets True. Durable on return."""
        ...

    def open(self, name: str) -> Source:
        """Open a file. Raises `NotFound`."""
        ...

    def sizes(self, under: str) -> Mapping[str, int]:
        """Return the names in a folder with their sizes in bytes; empty if there is no such folder."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file; no-op if there is none. The deletion survives a power loss: a commit must not reappear after
        its objects are gone.
        """
        ...


def read_small(node: Node, name: str, *, limit_bytes: int = 1 << 20) -> bytes:
    """Return a small file of a node.

    Raises:
        NotFound: there is none.
        BackupDamaged: it is larger than any of its kind.
    """
    with closing(node.open(name)) as source:
        if source.num_bytes > limit_bytes:
            raise BackupDamaged(f"{node.place}/{name} has {source.num_bytes} bytes, expected at most {limit_bytes}")
        data = bytearray(source.num_bytes)
        source.read_into(0, [memoryview(data)])
        return bytes(data)


def write_small(node: Node, name: str, data: bytes) -> None:
    """Write a small file of a node, or replace it."""
    sink = node.put(name)
    try:
        sink.write([data])
        sink.finish()
    finally:
        sink.abort()
