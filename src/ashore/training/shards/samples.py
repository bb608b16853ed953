"""Shards as samples: the position of each, for random access, and its content."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from ashore.core import UNDECODABLE, open_given
from ashore.errors import BrokenData
from ashore.training.datalines import Example, TextExample, parse_example
from ashore.training.shards.naming import Form
from ashore.training.shards.tarform import TarSample, parts_of, walk_tar

MOST_LINE_BYTES: Final = 64 << 20
TEXT_BYTES: Final = 64 << 10
"""About how much of a text file is one sample: up to an empty line, where there is one, or the end of a line."""
_TAUGHT: Final = ("json", "txt")
"""Parts of a WebDataset sample that are learned: a document as a line of JSONL has it, or a text."""
_PARAGRAPH: Final = re.compile(rb"\n\s*\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A piece of a shard."""

    where: str
    """For messages: `line 7`, `sample a/0007`."""
    offset: int
    num_bytes: int


def walk(path: Path, form: Form) -> Iterator[tuple[Sample, bytes]]:
    """Yield the samples of a file in order with their bytes; for a tar, the bytes of all members.

    Raises:
        BrokenData: the file is not what its suffix says, or is cut short. OSError: the disk.
    """
    with open_given(path) as file:
        match form:
            case "tar":
                end = os.fstat(file.fileno()).st_size
                try:
                    for found in walk_tar(file, end=end):
                        file.seek(found.offset)
                        where = f"sample {found.key}"
                        sample = Sample(where=where, offset=found.offset, num_bytes=found.num_bytes)
                        yield sample, file.read(found.num_bytes)
                except ValueError as error:
                    raise BrokenData(
                        f"{path.name} is not a whole tar of samples: {error}", hint="fetch or write it again"
                    ) from error
            case "text":
                yield from _texts(file)
            case _:
                yield from _lines(file, path.name)


def read_example(data: bytes, form: Form) -> Example:
    """Return the content of a sample. Raises `ValueError` with the reason (msgspec's errors are such)."""
    if form == "text":
        return TextExample(text=data.decode())
    if form != "tar":
        return parse_example(data)
    found = one_sample(data)
    part = next((part for part in _TAUGHT if part in found.parts), None)
    if part is None:
        raise ValueError(f"it has no part .json or .txt, only {', '.join('.' + part for part in found.parts)}")
    said = parts_of(BytesIO(data), found, (part,))[part]
    if part == "json":
        return parse_example(said)
    if not said.strip():
        raise ValueError("its text is empty")
    return TextExample(text=said.decode())


def read_field(data: bytes, form: Form, name: str) -> str:
    """Return a field of a sample's document as text; empty if there is none."""
    if form == "text":
        return ""
    if form == "tar":
        data = parts_of(BytesIO(data), one_sample(data), ("json",)).get("json", b"{}")
    try:
        value = msgspec.json.decode(data, type=dict[str, Any]).get(name)
    except UNDECODABLE:
        return ""
    return "" if value is None else str(value)


def one_sample(data: bytes) -> TarSample:
    """Return the sample that spans all of `data`. Raises `ValueError` if it is not one."""
    (found,) = walk_tar(BytesIO(data), end=len(data))
    return found


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[Sample, bytes]]:
    number, offset = 0, 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > MOST_LINE_BYTES:
            raise BrokenData(
                f"{name}, line {number}: longer than {MOST_LINE_BYTES >> 20} MiB", hint="one line is one example"
            )
        if line.strip():
            yield Sample(where=f"line {number}", offset=offset, num_bytes=len(line)), line
        offset += len(line)


def _texts(file: BinaryIO) -> Iterator[tuple[Sample, bytes]]:
    number, offset, rest = 0, 0, b""
    while True:
        read = file.read(TEXT_BYTES)
        rest += read
        while rest and (len(rest) > TEXT_BYTES or not read):
            size = _text_size(rest) if len(rest) > TEXT_BYTES else len(rest)
            text, rest = rest[:size], rest[size:]
            if text.strip():
                number += 1
                yield Sample(where=f"text {number}", offset=offset, num_bytes=size), text
            offset += size
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
