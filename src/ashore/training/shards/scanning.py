"""Scans a shard: its examples, their positions, and their numbers of tokens."""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from typing import BinaryIO, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core import open_given
from ashore.errors import AshoreError, BrokenData, Conflict, InvalidRequest
from ashore.text import TextModel
from ashore.training.data import Piece, pieces_of
from ashore.training.shards.cache import ShardCache
from ashore.training.shards.places import Shard
from ashore.training.shards.samples import read_example, read_field, walk

PIECES: Final = np.dtype(
    [("offset", "<u8"), ("num_bytes", "<u4"), ("shard", "<u4"), ("piece", "<u4"), ("tokens", "<u4"), ("targets", "<u4")]
)
"""A row of an index: a piece of the sample that lies there, its place among the sample's pieces, and its size."""
Pieces = NDArray[np.void]
MOST_TOLD: Final = 5
_OPEN_FILES: Final = 32
_KEPT_TOKENS: Final = 2_000_000


class Scan(msgspec.Struct, kw_only=True):
    """Result of scanning a shard."""

    pieces: bytes = b""
    """Rows of `PIECES`, in the order of the file."""
    digest: str = ""
    """SHA-256 of the shard as it lies in its place, in hexadecimal digits."""
    num_samples: int = 0
    num_cut: int = 0
    left_out: list[str] = []
    """The first samples of which nothing to learn was left after cutting."""
    num_left_out: int = 0
    broken: list[str] = []
    """What is wrong with the first broken samples."""
    num_broken: int = 0
    fault: str = ""
    """Why none of the shard can be used; empty: it can."""


def scan(cache: ShardCache, shard: Shard, number: int, text: TextModel, max_length: int) -> Scan:
    """Scan a shard, the `number`-th of its set, to its end. Faults in the data are returned, not raised.

    Raises:
        SourceUnreachable, Conflict, DiskFull: as `ShardCache.path`.
    """
    found, rows = Scan(), list[tuple[int, ...]]()
    form = cache.form(shard)
    try:
        path = cache.path(shard)
        for sample, data in walk(path, form):
            found.num_samples += 1
            try:
                pieces = list(pieces_of(read_example(data, form), text, max_length))
            except (ValueError, InvalidRequest) as error:
                found.num_broken += 1
                if len(found.broken) < MOST_TOLD:
                    found.broken.append(f"{sample.where}: {_words(error)}")
                continue
            taught = [(at, piece) for at, piece in enumerate(pieces) if piece.is_taught]
            found.num_cut += sum(piece.is_cut for piece in pieces)
            if len(taught) < len(pieces):
                found.num_left_out += 1
                found.left_out += [sample.where] if len(found.left_out) < MOST_TOLD else []
            rows += [
                (sample.offset, sample.num_bytes, number, at, len(piece.ids), sum(piece.targets[1:]))
                for at, piece in taught
            ]
        found.digest = cache.digest(shard)
    except BrokenData as error:
        return Scan(fault=error.message, digest=_digest(cache, shard))
    found.pieces = np.array(rows, PIECES).tobytes()
    return found


def _digest(cache: ShardCache, shard: Shard) -> str:
    """Return the digest of a shard that cannot be read: of none, where it cannot even be unpacked."""
    try:
        return cache.digest(shard)
    except BrokenData:
        return hashlib.sha256().hexdigest()


def _words(error: ValueError | AshoreError) -> str:
    return error.message if isinstance(error, AshoreError) else str(error)


class PieceReader:
    """Reads any examples of a set. For one thread."""

    def __init__(self, cache: ShardCache, shards: tuple[Shard, ...], text: TextModel, max_length: int) -> None:
        self._cache, self._shards, self._text, self._max_length = cache, shards, text, max_length
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()
        self._samples: OrderedDict[tuple[int, int], list[Piece]] = OrderedDict()
        self._kept_tokens = 0

    def read(self, pieces: Pieces) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return ids and targets of examples, concatenated.

        Raises:
            Conflict: the data changed since it was indexed. SourceUnreachable, DiskFull.
        """
        found = [self._piece(*map(int, piece.tolist())) for piece in pieces]
        ids = np.concatenate([np.array(piece.ids, np.int32) for piece in found])
        targets = np.concatenate([np.array([False, *piece.targets[1:]], np.bool_) for piece in found])
        return ids, targets

    def field(self, pieces: Pieces, name: str) -> list[str]:
        """Return what the document of each example has under a name beside what is learned; empty where it has none."""
        found: dict[tuple[int, int], str] = {}
        for piece in pieces:
            offset, num_bytes, shard = int(piece["offset"]), int(piece["num_bytes"]), int(piece["shard"])
            if (shard, offset) not in found:
                file = self._file(shard)
                file.seek(offset)
                form = self._cache.form(self._shards[shard])
                found[shard, offset] = read_field(file.read(num_bytes), form, name)
        return [found[int(piece["shard"]), int(piece["offset"])] for piece in pieces]

    def close(self) -> None:
        """Close the files. May be called twice."""
        while self._files:
            self._files.popitem()[1].close()

    def _piece(self, offset: int, num_bytes: int, shard: int, at: int, tokens: int, targets: int) -> Piece:
        pieces = self._sample(shard, offset, num_bytes)
        if at >= len(pieces) or len(pieces[at].ids) != tokens or sum(pieces[at].targets[1:]) != targets:
            raise Conflict(
                f"{self._shards[shard].name} is not what it was when it was indexed (byte {offset:,})",
                hint="run the command again once nothing writes to it",
            )
        return pieces[at]

    def _sample(self, shard: int, offset: int, num_bytes: int) -> list[Piece]:
        """Return the pieces of a sample; those of long texts are cached for the next call."""
        if (shard, offset) in self._samples:
            self._samples.move_to_end((shard, offset))
            return self._samples[shard, offset]
        file = self._file(shard)
        file.seek(offset)
        form = self._cache.form(self._shards[shard])
        try:
            pieces = list(pieces_of(read_example(file.read(num_bytes), form), self._text, self._max_length))
        except (ValueError, InvalidRequest) as error:
            raise Conflict(
                f"{self._shards[shard].name} is not what it was when it was indexed (byte {offset:,}): {_words(error)}",
                hint="run the command again once nothing writes to it",
            ) from error
        if len(pieces) > 1:
            self._samples[shard, offset] = pieces
            self._kept_tokens += sum(len(piece.ids) for piece in pieces)
            while self._kept_tokens > _KEPT_TOKENS and len(self._samples) > 1:
                self._kept_tokens -= sum(len(piece.ids) for piece in self._samples.popitem(last=False)[1])
        return pieces

    def _file(self, shard: int) -> BinaryIO:
        told = self._shards[shard]
        if shard in self._files:
            self._cache.used(told)
            self._files.move_to_end(shard)
            return self._files[shard]
        while shard not in self._files:
            with contextlib.suppress(FileNotFoundError):  # another process needed the room just now
                self._files[shard] = open_given(self._cache.path(told))
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        return self._files[shard]
