"""A bucket: one object for each checkpoint. With object lock on the bucket they cannot be removed or replaced."""

from __future__ import annotations

from collections.abc import Iterator

from ashore.control.audit.archive import BucketFolder


class BucketAnchor:
    """Keeps `PATH/HOME/NUMBER.checkpoint`."""

    def __init__(self, place: str, home: str) -> None:
        self._folder = BucketFolder(place)
        self._home = home

    @property
    def place(self) -> str:
        return self._folder.place

    def put(self, number: int, line: bytes) -> None:
        self._folder.make(f"{self._home}/{number:012}.checkpoint", line + b"\n")

    def read(self) -> Iterator[bytes]:
        for name in self._folder.names(self._home):
            yield self._folder.read(name).removesuffix(b"\n")
