"""A teacher's log-probabilities on disk: append-only segments, each record with its checksum.

    FOLDER/store.json        the key: which teacher said this about which data
    FOLDER/000000.seg …      a head (magic, digest of the key), then records

A record is one example: its number and length, BLAKE3 of both and of the bytes (8 bytes of it), then `encode_rows`.
Segments before the last are final, and damage in them is an error. In the last one the first incomplete record ends the
store: it and everything after it is dropped when writing resumes, and written again.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from blake3 import blake3

from ashore.core import UNDECODABLE, Digest, make_folder, sync_folder, write_whole
from ashore.errors import Conflict, CorruptBlob, NotFound
from ashore.optimize.distilling.toprows import TopRows, decode_rows, encode_rows
from ashore.store import disk_errors

SEGMENT_BYTES: Final = 16 << 20
"""A segment that has reached this is closed and flushed to disk."""

_MAGIC: Final = b"ashtop1\n"
_HEAD_BYTES: Final = len(_MAGIC) + 32
_RECORD: Final = struct.Struct("<II8s")


class StoreKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the log-probabilities depend on. A store with an equal key can be reused."""

    teacher: Digest
    """Of the teacher's manifest."""
    engine: str
    """Kind, version and precision of what ran it."""
    tokenizer: Digest
    data: Digest
    """Of the token ids of all examples and of the positions that are asked for."""
    vocab_size: int
    num_examples: int
    most: int
    """Tokens kept for a position at most."""
    tail: float
    """Probability that may be left out of a position before `most` is reached."""

    @property
    def id_bits(self) -> int:
        return max(1, (self.vocab_size - 1).bit_length())

    @property
    def digest(self) -> bytes:
        return blake3(msgspec.json.encode(self, order="sorted")).digest()

    @property
    def folder_name(self) -> str:
        """A name for the folder of this store among others."""
        return self.digest.hex()[:24]


@dataclass(frozen=True, slots=True)
class _Place:
    segment: int
    at: int
    num_bytes: int


class LogitWriter:
    """Appends examples in order. One process at a time; use it in `with`."""

    def __init__(self, folder: Path, key: StoreKey, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Open or create the store in `folder`. Complete records of an earlier writer stay; `num_done` counts them.

        Raises:
            Conflict: the store there is of another teacher, other data or other settings, or another process writes it.
            CorruptBlob: it was damaged, not only cut short.
            DiskFull: no room for the first file.
        """
        self._folder, self._key, self._segment_bytes = folder, key, segment_bytes
        with ExitStack() as stack, disk_errors(folder):
            make_folder(folder)
            self._lock = stack.enter_context(_locked(folder))
            _write_key(folder, key)
            places, end = _scan(folder, key)
            self.num_done = len(places)
            """Examples that are whole on disk."""
            self._file: BinaryIO | None
            self._segment, self._file = self._go_on(end)
            stack.pop_all()

    def __enter__(self) -> LogitWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: TopRows) -> None:
        """Write the rows of example number `num_done`. A call that raises has no effect.

        Raises:
            DiskFull: no room; what was written before stays valid.
        """
        data = encode_rows(rows, id_bits=self._key.id_bits)
        record = _RECORD.pack(self.num_done, len(data), _checksum(self.num_done, data)) + data
        with disk_errors(self._folder):
            file = self._open_file()
            if file.tell() >= self._segment_bytes:
                self._close_segment()
                self._segment += 1
                self._file = file = self._begin(self._segment)
            start = file.tell()
            try:
                _write_all(file, record)
            except OSError:
                file.seek(start)
                file.truncate()
                raise
        self.num_done += 1

    def close(self) -> None:
        """Flush to disk and release the lock. May be called twice."""
        if self._file is not None:
            with disk_errors(self._folder):
                self._close_segment()
            self._lock.close()

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("the store is closed")
        return self._file

    def _close_segment(self) -> None:
        file, self._file = self._open_file(), None
        try:
            os.fsync(file.fileno())
        finally:
            file.close()

    def _go_on(self, end: _Place | None) -> tuple[int, BinaryIO]:
        """Cut off incomplete records, and open the segment for the next record."""
        if end is None:
            return 0, self._begin(0)
        for path in _segments(self._folder):
            if int(path.stem) > end.segment:
                path.unlink()
        path = _segment_path(self._folder, end.segment)
        os.truncate(path, end.at)
        if end.at < _HEAD_BYTES:
            return end.segment, self._begin(end.segment)
        return end.segment, path.open("ab", buffering=0)

    def _begin(self, number: int) -> BinaryIO:
        file = _segment_path(self._folder, number).open("wb", buffering=0)
        _write_all(file, _MAGIC + self._key.digest)
        sync_folder(self._folder)
        return file


class LogitReader:
    """Reads examples of a finished store in any order; keeps only their positions in memory."""

    def __init__(self, folder: Path, key: StoreKey) -> None:
        """Open the store in `folder`.

        Raises:
            NotFound: it does not exist, or is incomplete: the teacher has not finished.
            Conflict: it is of another teacher, other data or other settings.
            CorruptBlob: it was damaged.
        """
        self._folder, self.key = folder, key
        _check_key(folder, key)
        self._places, _ = _scan(folder, key)
        if len(self._places) != key.num_examples:
            raise NotFound(
                f"{folder} has the log-probabilities of {len(self._places)} of {key.num_examples} examples",
                hint="run the same command again; the teacher continues where it stopped",
            )
        self._files: dict[int, BinaryIO] = {}

    def __enter__(self) -> LogitReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. May be called twice."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    @property
    def num_bytes(self) -> int:
        """Bytes of all segments on disk."""
        return sum(path.stat().st_size for path in _segments(self._folder))

    def rows(self, number: int) -> TopRows:
        """Return the teacher's output for one example.

        Raises:
            CorruptBlob: the bytes were changed.
        """
        place = self._places[number]
        if place.segment not in self._files:
            self._files[place.segment] = _segment_path(self._folder, place.segment).open("rb")
        file = self._files[place.segment]
        file.seek(place.at)
        data = file.read(_RECORD.size + place.num_bytes)
        if len(data) != _RECORD.size + place.num_bytes or not _is_whole(data, number):
            raise _damaged(_segment_path(self._folder, place.segment), number)
        return decode_rows(data[_RECORD.size :], id_bits=self.key.id_bits)


def _scan(folder: Path, key: StoreKey) -> tuple[list[_Place], _Place | None]:
    """Return the position of each complete record, and the end of the last one (None if there is no segment).

    Raises:
        CorruptBlob: a segment is missing or of another key, or one before the last does not hold what it should.
    """
    places: list[_Place] = []
    end: _Place | None = None
    paths = _segments(folder)
    for number, path in enumerate(paths):
        last = number == len(paths) - 1
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if last and len(head) < _HEAD_BYTES:
                return places, _Place(number, 0, 0)
            if int(path.stem) != number or head != _MAGIC + key.digest:
                raise CorruptBlob(
                    f"{path} is not segment {number} of this store",
                    hint=f"delete {folder}; the teacher then computes it again",
                )
            found = list(_records(file, number, first=len(places), check=last))
        places += found
        at = found[-1].at + _RECORD.size + found[-1].num_bytes if found else _HEAD_BYTES
        if not last and at != path.stat().st_size:
            raise _damaged(path, len(places))
        end = _Place(number, at, 0)
    return places, end


def _records(file: BinaryIO, segment: int, *, first: int, check: bool) -> Iterator[_Place]:
    """Yield the records of a segment up to the first incomplete one.

    Args:
        file: Positioned after the segment's head.
        segment: Its number.
        first: Expected number of its first example.
        check: Also verify checksums: an unknown part of the last segment reached the disk.
    """
    at, size = file.tell(), os.fstat(file.fileno()).st_size
    for expected in itertools.count(first):
        head = file.read(_RECORD.size)
        if len(head) < _RECORD.size:
            return
        example, length, _ = _RECORD.unpack(head)
        end = at + _RECORD.size + length
        if example != expected or end > size:
            return
        if check and not _is_whole(head + file.read(length), example):
            return
        file.seek(end)
        yield _Place(segment, at, length)
        at = end


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.seg"))


def _segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.seg"


def _is_whole(record: bytes, number: int) -> bool:
    example, length, checksum = _RECORD.unpack_from(record)
    data = record[_RECORD.size :]
    return bool(example == number and length == len(data) and checksum == _checksum(number, data))


def _checksum(number: int, data: bytes) -> bytes:
    return blake3(struct.pack("<II", number, len(data)) + data).digest(8)


def _damaged(path: Path, number: int) -> CorruptBlob:
    return CorruptBlob(
        f"example {number} in {path} is damaged: its bytes have changed",
        hint=f"delete {path.parent}; the teacher then computes it again",
    )


def _write_key(folder: Path, key: StoreKey) -> None:
    path = folder / "store.json"
    if path.exists():
        _check_key(folder, key)
        return
    write_whole(path, msgspec.json.format(msgspec.json.encode(key)), mode=0o644)


def _check_key(folder: Path, key: StoreKey) -> None:
    """Refuse a store with a different key.

    Raises:
        NotFound, CorruptBlob, Conflict.
    """
    path = folder / "store.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=StoreKey)
    except FileNotFoundError as error:
        raise NotFound(f"{folder} has no log-probabilities", hint="run the teacher first") from error
    except UNDECODABLE as error:
        raise CorruptBlob(f"{path} cannot be read: {error}", hint=f"delete {folder}") from error
    for name in StoreKey.__struct_fields__:
        seen: Any = getattr(found, name)
        expected: Any = getattr(key, name)
        if seen != expected:
            raise Conflict(
                f"the log-probabilities in {folder} are for {name} {seen}; expected {name} {expected}",
                hint="use another directory, or delete this one",
            )


def _locked(folder: Path) -> BinaryIO:
    file = (folder / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise Conflict(
            f"another process is writing log-probabilities to {folder}", hint="wait until it has finished"
        ) from error
    return file


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of `data`: an unbuffered file on a full disk may accept only a part."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
