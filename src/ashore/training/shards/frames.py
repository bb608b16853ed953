"""Protocol between a run and its workers: length-prefixed messages over two pipes."""

from __future__ import annotations

import struct
from typing import IO, Final

import msgspec

from ashore.training.shards.places import Shard
from ashore.training.shards.scanning import Scan

_LENGTH: Final = struct.Struct("<Q")


class Setup(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message to a worker."""

    place: str
    shards: tuple[Shard, ...]
    cache: str
    """Folder of fetched shards."""
    cache_bytes: int
    patience_s: float
    text: str
    """Folder of the tokenizer and its template."""
    max_length: int


class ScanOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read a shard to its end."""

    shard: int


class RowsOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read examples."""

    pieces: bytes
    """Rows of `PIECES`."""


class Fetch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Bring a shard to this machine."""

    shard: int


class Scanned(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to `ScanOrder`."""

    scan: Scan


class Rows(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to `RowsOrder`: ids (int32) and targets (bool), one example behind the other."""

    ids: bytes
    targets: bytes


class Fetched(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to `Fetch`."""


class Said(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something for people, before the answer."""

    line: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to anything: an error of ours."""

    code: str
    message: str
    hint: str


Order = Setup | ScanOrder | RowsOrder | Fetch
Answer = Scanned | Rows | Fetched | Said | Failed


def send(stream: IO[bytes], message: Order | Answer) -> None:
    """Write a message whole."""
    data = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive_order(stream: IO[bytes]) -> Order | None:
    """Return the next message of a run; None if it has ended."""
    data = _read(stream)
    return None if data is None else msgspec.msgpack.decode(data, type=Order)


def receive_answer(stream: IO[bytes]) -> Answer | None:
    """Return the next message of a worker; None if it is dead."""
    data = _read(stream)
    return None if data is None else msgspec.msgpack.decode(data, type=Answer)


def _read(stream: IO[bytes]) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size)
    return data if len(data) == size else None
