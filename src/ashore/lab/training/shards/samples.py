"""The samples of a shard, read once from front to back: lines, texts, rows of Parquet, members of a WebDataset tar.

Python's `tarfile` reads the tar, and `pyarrow` the Parquet. What training data never needs is refused: names that leave
the folder, links, devices, pickles, members above 1 GiB, files that unpack to more than 200 times their size.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import msgspec

from ashore.core.errors import BrokenData, MissingExtra
from ashore.kit.boundedreads import BoundedReads
from ashore.kit.decode import UNDECODABLE
from ashore.kit.extras import how_to_install
from ashore.lab.training.datalines import Example, TextExample, parse_example
from ashore.lab.training.shards.naming import is_packed, is_pickle
from ashore.lab.training.shards.places import Shard

MOST_LINE_BYTES: Final = 64 << 20
TEXT_BYTES: Final = 64 << 10
"""About how much of a text file is one sample: up to an empty line, where there is one, or the end of a line."""
MOST_MEMBER_BYTES: Final = 1 << 30
"""Of one member of a tar, and of all members of one sample."""
MOST_PARTS: Final = 64
MOST_NAME: Final = 4096
MOST_TIMES: Final = 200
"""A file that unpacks to more than this many times its size was made to fill memory. Text shrinks to a tenth."""
_SPARE_BYTES: Final = 1 << 20
_ROWS: Final = 256
"""Of a Parquet file that are decoded at once, fewer where they may be long."""
_BATCH_BYTES: Final = 1 << 30
_COLUMNS: Final = ("messages", "tools", "prompt", "completion", "text")
_PARAGRAPH: Final = re.compile(rb"\n\s*\n")
_BLOCK: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One example, or a text, with what lies beside it."""

    where: str
    """For messages: `line 7`, `sample a/0007`."""
    parts: Mapping[str, bytes]
    """`json` a document, `txt` a text; a tar may have others."""
    key: str = ""
    """Of a tar: the name of its members up to the first dot."""


def walk(file: BinaryIO, shard: Shard) -> Iterator[Sample]:
    """Yield the samples of an open shard in order.

    Raises:
        BrokenData: the file is not what its suffix says, or is cut short. MissingExtra: it is Parquet, without pyarrow.
    """
    try:
        if shard.form == "parquet":
            yield from _rows(file, shard.num_bytes)
            return
        plain: Any = _Unpacked(file, shard.num_bytes) if is_packed(shard.name) else file
        match shard.form:
            case "tar":
                yield from walk_tar(plain)
            case "text":
                yield from _texts(plain)
            case _:
                yield from _lines(plain)
    except (ValueError, EOFError, RecursionError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise BrokenData(f"{shard.name} cannot be read: {error}", hint="fetch or write it again") from error


def read_example(sample: Sample) -> Example:
    """Return what a sample teaches. Raises `ValueError` with the reason (msgspec's errors are such)."""
    if (document := sample.parts.get("json")) is not None:
        return parse_example(document)
    if (text := sample.parts.get("txt")) is None:
        raise ValueError(f"it has no part .json or .txt, only {', '.join('.' + part for part in sample.parts)}")
    if not text.strip():
        raise ValueError("its text is empty")
    return TextExample(text=text.decode())


def read_field(sample: Sample, name: str) -> str:
    """Return a field of a sample's document as text; empty if there is none."""
    try:
        value = msgspec.json.decode(sample.parts.get("json", b"{}"), type=dict[str, Any]).get(name)
    except UNDECODABLE:
        return ""
    return "" if value is None else str(value)


class _Unpacked(gzip.GzipFile):
    """A gzip file that ends with an error where it was made to fill memory."""

    def __init__(self, file: BinaryIO, num_bytes: int) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._most = MOST_TIMES * num_bytes + _SPARE_BYTES

    def read(self, size: int | None = -1) -> bytes:
        return self._checked(super().read(size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._checked(super().readline(size))

    def _checked(self, data: bytes) -> bytes:
        if self.tell() > self._most:
            raise ValueError(f"it unpacks to more than {MOST_TIMES} times its size")
        return data


def walk_tar(file: BinaryIO) -> Iterator[Sample]:
    """Yield the samples of a tar: members that follow each other with the same name up to the first dot.

    Raises:
        ValueError, tarfile.TarError: the file is not a whole tar of plain files.
    """
    key, parts = "", dict[str, bytes]()
    bounded: Any = BoundedReads(file, MOST_MEMBER_BYTES)
    with tarfile.open(fileobj=bounded, mode="r:", encoding="utf-8", errors="strict") as tar:
        for member in tar:
            tar.members.clear()  # type: ignore[attr-defined]  # or all headers stay in memory
            if member.isdir():
                continue
            stem, part = _split(_checked_member(member))
            if parts and stem != key:
                yield Sample(where=f"sample {key}", key=key, parts=parts)
                parts = {}
            key = stem
            where = f"byte {member.offset}: {member.name!r}"
            if part in parts or len(parts) >= MOST_PARTS:
                raise ValueError(f"{where} is there twice, or its sample has more than {MOST_PARTS} parts")
            if sum(map(len, parts.values())) + member.size > MOST_MEMBER_BYTES:
                raise ValueError(f"{where} makes its sample larger than {MOST_MEMBER_BYTES:,} bytes")
            content = tar.extractfile(member)
            assert content is not None
            parts[part] = content.read()
        # `tarfile` takes a header that it cannot read for the end; an end is empty.
        file.seek(tar.offset)
        if file.read(_BLOCK).strip(b"\0"):
            raise ValueError(f"byte {tar.offset}: not a header of tar")
    if parts:
        yield Sample(where=f"sample {key}", key=key, parts=parts)


def _checked_member(member: tarfile.TarInfo) -> str:
    """Return the name of a member that may be read. Raises `ValueError`."""
    name, where = member.name, f"byte {member.offset}: {member.name[:200]!r}"
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        raise ValueError(f"{where} is a link, a device or another thing that is not a plain file")
    if not 0 <= member.size <= MOST_MEMBER_BYTES:
        raise ValueError(f"{where} says it has {member.size:,} bytes; at most {MOST_MEMBER_BYTES:,} are read")
    if is_pickle(name):
        raise ValueError(f"{where} is a pickle, which would run code")
    check_path(name)
    return name


def check_path(name: str) -> None:
    """Check that the name of a member stays below the folder of its shard. Raises `ValueError`."""
    outside = name.startswith("/") or ".." in name.split("/") or "\\" in name or "\0" in name
    if outside or not 0 < len(name) <= MOST_NAME:
        raise ValueError(f"{name[:200]!r} is not a name below the folder of the shard")


def _split(name: str) -> tuple[str, str]:
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, part = base.partition(".")
    return folder + slash + stem, part.lower()


def _lines(file: BinaryIO) -> Iterator[Sample]:
    number = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > MOST_LINE_BYTES:
            raise ValueError(f"line {number} is longer than {MOST_LINE_BYTES >> 20} MiB; one line is one example")
        if line.strip():
            yield Sample(where=f"line {number}", parts={"json": line.strip()})


def _texts(file: BinaryIO) -> Iterator[Sample]:
    number, rest = 0, b""
    while True:
        read = file.read(TEXT_BYTES)
        rest += read
        while rest and (len(rest) > TEXT_BYTES or not read):
            size = _text_size(rest) if len(rest) > TEXT_BYTES else len(rest)
            text, rest = rest[:size], rest[size:]
            if text.strip():
                number += 1
                yield Sample(where=f"text {number}", parts={"txt": text})
        if not read:
            return


def _text_size(data: bytes) -> int:
    """Return how much of `data`, which is longer, is one sample."""
    gaps = [found.end() for found in _PARAGRAPH.finditer(data, TEXT_BYTES // 2, TEXT_BYTES)]
    size = gaps[-1] if gaps else data.rfind(b"\n", 0, TEXT_BYTES) + 1 or data.rfind(b" ", 0, TEXT_BYTES) + 1
    if not size:
        size = TEXT_BYTES
        while size > TEXT_BYTES - 4 and data[size] & 0xC0 == 0x80:  # never within a character
            size -= 1
    return size


def _rows(data: BinaryIO, num_bytes: int) -> Iterator[Sample]:
    """Yield the rows of a Parquet file as documents, with only the columns that are learned."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("Parquet needs pyarrow, which is not installed", hint=how_to_install("train")) from error
    left, number = MOST_TIMES * num_bytes + _SPARE_BYTES, 0
    with parquet.ParquetFile(data) as file:
        there = set(file.schema_arrow.names)
        columns = [name for name in _COLUMNS if name in there]
        if not columns:
            raise ValueError(f"it has no column messages, prompt or text, only {', '.join(sorted(there))[:200]}")
        groups = [file.metadata.row_group(at) for at in range(file.num_row_groups)]
        sizes = [one.column(at).total_uncompressed_size for one in groups for at in range(one.num_columns)]
        # One long value of a dictionary may stand in every row: a batch is at most so many times a column as it lies.
        rows = max(1, min(_ROWS, _BATCH_BYTES // max(1, *sizes, 1)))
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            for row in batch.to_pylist():
                number += 1
                line = msgspec.json.encode(_without_nulls(row))
                if (left := left - len(line)) < 0:
                    raise ValueError(f"it unpacks to more than {MOST_TIMES} times its size")
                yield Sample(where=f"line {number}", parts={"json": line})


def _without_nulls(value: Any) -> Any:
    """Return a row without nulls: Parquet gives every message all fields that any of them has."""
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
