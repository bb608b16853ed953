"""Chooses the adapter of a node's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

from ashore.control.backup.bucket import BucketNode
from ashore.control.backup.directory import DirectoryNode
from ashore.control.backup.ports import Node
from ashore.core.errors import InvalidRequest, NodeUnavailable

NodeOpener = Callable[[str], Node]
UNKNOWN_PLACE: Final = "unknown-place-of-node-"


def open_node(place: str) -> Node:
    """Return the node at a place: an absolute folder, or `s3://BUCKET/PATH`. Touches nothing.

    Raises:
        InvalidRequest: the place is neither.
    """
    if place.startswith("s3://"):
        return BucketNode(place)
    if place.startswith(UNKNOWN_PLACE):
        return UnknownNode(place)
    if not place.startswith("/"):
        raise InvalidRequest(
            f"the node {place!r} is neither an absolute path nor a bucket",
            hint="write /mnt/a/ashore or s3://BUCKET/PATH",
        )
    return DirectoryNode(Path(place))


def unknown_place(index: int) -> str:
    """Return a placeholder for a node that was not given at a restore."""
    return f"{UNKNOWN_PLACE}{index}"


class UnknownNode:
    """A node with an unknown place: unavailable until it is replaced."""

    def __init__(self, place: str) -> None:
        self.place = place

    def prepare(self) -> NoReturn:
        number = self.place.removeprefix(UNKNOWN_PLACE)
        raise NodeUnavailable(
            f"the place of node {number} was not given when this home was restored",
            hint=f"give it: ashore backup replace {number} PLACE",
        )

    def filesystem(self) -> str:
        return self.prepare()

    def put(self, name: str) -> NoReturn:
        self.prepare()

    def make(self, name: str, data: bytes) -> bool:
        return self.prepare()

    def open(self, name: str) -> NoReturn:
        self.prepare()

    def sizes(self, under: str) -> Mapping[str, int]:
        return self.prepare()

    def remove(self, name: str) -> None:
        self.prepare()
