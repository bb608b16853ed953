"""What backups need of the places they lie in, and of whoever knows which models must be kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

Part = bytes | memoryview


class Sink(Protocol):
    """A file of a node that is being written. Used by one thread at a time."""

    def write(self, parts: Sequence[Part]) -> None:
        """Add bytes at the end.

        Raises:
            DiskFull: the node is full.
            NodeUnavailable: the node is gone, or refuses.
        """
        ...

    def finish(self) -> None:
        """Make the file visible under its name, whole; when this returns it survives a loss of power. Raises as `write`
        does, and then there is none of it."""
        ...

    def abort(self) -> None:
        """Throw away what was written. May be called twice, and after `finish`, when it does nothing; never raises."""
        ...


class Source(Protocol):
    """A file of a node that is open for reading. Used by one thread at a time."""

    @property
    def num_bytes(self) -> int: ...

    def read_into(self, offset: int, parts: Sequence[memoryview]) -> None:
        """Fill the parts, one after the other, from `offset` on.

        Raises:
            BackupDamaged: the file ends before.
            NodeUnavailable: the node is gone, or refuses.
        """
        ...

    def close(self) -> None: ...


class Node(Protocol):
    """A place for shards. Names are relative paths with `/`. Safe to call from several threads.

    Every method raises `NodeUnavailable` where the place is not there (an unmounted disk, a server that is down); it is
    never made by anything but `prepare`.
    """

    @property
    def place(self) -> str:
        """Where it is, as an operator writes it."""
        ...

    def prepare(self) -> None:
        """Make the place itself where it is missing. May be called twice."""
        ...

    def filesystem(self) -> str:
        """Return what tells this file system from others; empty where nothing does."""
        ...

    def put(self, name: str) -> Sink:
        """Begin a file. Nothing shows under the name before it is finished; then it replaces what was there."""
        ...

    def make(self, name: str, data: bytes) -> bool:
        """Write a small file unless there is one of this name: of two that try, one gets True. Then it is durable."""
        ...

    def open(self, name: str) -> Source:
        """Open a file. Raises `NotFound`."""
        ...

    def sizes(self, under: str) -> Mapping[str, int]:
        """Return the names under a folder with their sizes in bytes; nothing where there is no such folder."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens where there is none. When this returns it stays deleted after a loss of power:
        a commit must not come back when the objects that it refers to are gone."""
        ...


@runtime_checkable
class Keep(Protocol):
    """Whoever knows of models that must not be lost: releases refer to them by the digests of their manifests."""

    def manifests(self) -> Collection[str]:
        """Return digests of manifests, `sha256:…`."""
        ...


class KeepNamed:
    """Keeps what has a name in the store, and nothing else: where there are no releases."""

    def manifests(self) -> Collection[str]:
        return ()


def read_small(node: Node, name: str, *, limit_bytes: int = 1 << 20) -> bytes:
    """Return a small file of a node.

    Raises:
        NotFound: there is none.
        BackupDamaged: it is larger than any of its kind.
    """
    from ashore.errors import BackupDamaged

    source = node.open(name)
    try:
        if source.num_bytes > limit_bytes:
            raise BackupDamaged(f"{node.place}/{name} has {source.num_bytes} bytes, expected at most {limit_bytes}")
        data = bytearray(source.num_bytes)
        source.read_into(0, [memoryview(data)])
        return bytes(data)
    finally:
        source.close()


def write_small(node: Node, name: str, data: bytes) -> None:
    """Write a small file of a node, or replace it."""
    sink = node.put(name)
    try:
        sink.write([data])
        sink.finish()
    finally:
        sink.abort()
