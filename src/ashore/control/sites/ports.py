"""Ports between the centre's tree, the site that reads it, and the site's own store.

Links block: python-tuf's fetcher does, hashing and patching would, and a site's loop is a process of its own. Call them
from a thread where an event loop runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ashore.core.errors import CorruptBlob, SourceUnreachable


class TooSlow(SourceUnreachable):
    """The other end sends so slowly that it may be an attack.

    Try again later, or from another mirror. What has arrived is kept.
    """


class WrongBytes(CorruptBlob):
    """What arrived is not what the signed list says: other bytes, too many, or none that can be unpacked.

    Nothing of it is kept. If it repeats, the mirror, the stick or a machine between alters files.
    """


class CentreLink(Protocol):
    """Reads the published tree, and hands reports in."""

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        """Yield the bytes of a file of the tree from `start` on, as they arrive.

        May be called again with a later `start` after it broke: what was yielded is good to keep. Several threads may
        read at once.

        Args:
            path: Below the tree, with `/`; as checked by `checked_path`.
            start: Bytes that the caller has already.
            limit: Most bytes of the whole file. One more raises, however many the other end sends.

        Raises:
            SourceUnreachable: there is no link, or it broke in the middle; `TooSlow` below the least rate.
            NotFound: there is no such file. RemoteRefused: this site may not read it.
            WrongBytes: it is larger than `limit`.
        """
        ...

    def put(self, path: str, body: bytes) -> None:
        """Write a file, a report, whole or not at all. May be called twice with the same bytes.

        Raises:
            SourceUnreachable, RemoteRefused.
        """
        ...


class Tree(CentreLink, Protocol):
    """A tree that the centre writes: a directory or a bucket."""

    def has(self, path: str) -> bool:
        """Return whether there is such a file."""
        ...

    def names(self, under: str) -> Iterator[tuple[str, int]]:
        """Yield path and size of the files below a folder, in any order."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file. May be called twice."""
        ...


def read_whole(link: CentreLink, path: str, *, limit: int) -> bytes:
    """Return a small file of the tree. Raises as `CentreLink.read`, also where a link has no limit of its own."""
    found = bytearray()
    for piece in link.read(path, limit=limit):
        found += piece
        if len(found) > limit:
            raise WrongBytes(f"{path} is longer than {limit:,} bytes")
    return bytes(found)
