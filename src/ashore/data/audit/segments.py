"""Files of a chain: their names, how their lines are read, and where a torn one ends."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from ashore.data.audit.canonical import MAX_LINE_BYTES, decode
from ashore.data.audit.chain import HASH_CHARS, MerkleTree, genesis, linked
from ashore.data.audit.model import ChainName, Head, Record
from ashore.kit.decode import UNDECODABLE

CHAINS: Final = "chains"
SEGMENT: Final = re.compile(r"(\d{8})\.log")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def chain_folder(root: Path, chain: ChainName) -> Path:
    """Return the folder of a chain in the audit folder."""
    assert _NAME.fullmatch(chain)
    return root / CHAINS / chain


def segment_path(root: Path, chain: ChainName, number: int) -> Path:
    """Return the file of a segment."""
    return chain_folder(root, chain) / f"{number:08}.log"


def chains_in(root: Path) -> list[ChainName]:
    """Return the chains in a folder, sorted."""
    folder = root / CHAINS
    if not folder.is_dir():
        return []
    return sorted(ChainName(one.name) for one in folder.iterdir() if one.is_dir() and _NAME.fullmatch(one.name))


def segments_of(root: Path, chain: ChainName) -> list[int]:
    """Return the numbers of a chain's segments, sorted."""
    folder = chain_folder(root, chain)
    found = (SEGMENT.fullmatch(one.name) for one in folder.iterdir()) if folder.is_dir() else iter(())
    return sorted(int(match[1]) for match in found if match)


class Shelf(Protocol):
    """Finds segments on this machine, or also in an archive. Used by one thread."""

    @property
    def is_whole(self) -> bool:
        """Whether every segment can be found: False if the archive is left out."""
        ...

    def chains(self) -> list[ChainName]:
        """Return the chains, sorted."""
        ...

    def numbers(self, chain: ChainName) -> list[int]:
        """Return the numbers of a chain's segments, sorted."""
        ...

    def path(self, chain: ChainName, number: int) -> Path:
        """Return a file with a segment; valid until the next call."""
        ...


class LocalShelf:
    """Segments in a folder."""

    is_whole = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def chains(self) -> list[ChainName]:
        return chains_in(self._root)

    def numbers(self, chain: ChainName) -> list[int]:
        return segments_of(self._root, chain)

    def path(self, chain: ChainName, number: int) -> Path:
        return segment_path(self._root, chain, number)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file, as bytes."""

    number: int
    """From 1."""
    offset: int
    hash: bytes
    """Of the record, as the line claims; empty where it claims none."""
    body: bytes
    whole: bool
    """Whether it ends with a newline."""


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a segment. Holds one line in memory, at most as long as a reader accepts."""
    offset = number = 0
    while raw := file.readline(MAX_LINE_BYTES):
        number += 1
        whole = raw.endswith(b"\n")
        claimed = claimed_hash(raw)
        yield Line(number, offset, claimed, raw[HASH_CHARS + 1 : len(raw) - whole], whole)
        offset += len(raw)


def claimed_hash(raw: bytes) -> bytes:
    """Return the hash at the beginning of a line; empty if it is not in canonical form."""
    text = raw[:HASH_CHARS]
    try:
        claimed = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return b""
    return claimed if claimed.hex().encode() == text and raw[HASH_CHARS : HASH_CHARS + 1] == b" " else b""


@dataclass(slots=True, kw_only=True)
class Tail:
    """The end of a chain's last segment, where its next writer continues."""

    head: Head
    hash: bytes
    num_bytes: int = 0
    """Of whole, good lines."""
    torn_bytes: int = 0
    """Behind them, of a line that was being written when its writer died."""
    damaged_line: int = 0
    """First line that is whole and wrong; 0: none. Nobody writes behind it, and nobody cuts it."""
    closed: bool = False
    """Whether the next record begins another segment."""
    root_before: str = ""
    """Root that the next first line of a segment names."""
    tree: MerkleTree
    first: Record | None = None
    """Of the last segment."""
    last: Record | None = None
    reference: Record | None = None
    """Whose time the next record's is compared with."""


def read_tail(root: Path, chain: ChainName) -> Tail:
    """Return the end of a chain. Reads its last segment whole.

    A crashed process leaves at most one line without a newline, which is cut. A complete line that does not fit was
    tampered with.
    """
    numbers = segments_of(root, chain)
    if not numbers:
        return Tail(
            head=Head(chain=chain, segment=0, seq=0, hash=""), hash=genesis(chain), tree=MerkleTree(), closed=True
        )
    number = numbers[-1]
    with segment_path(root, chain, number).open("rb") as file:
        tail = _tail_of(file, chain, number)
    if tail.last is None:
        _go_on_from_before(tail, root, chain, number)
    return tail


def _tail_of(file: BinaryIO, chain: ChainName, number: int) -> Tail:
    tail = Tail(head=Head(chain=chain, segment=number, seq=0, hash=""), hash=b"", tree=MerkleTree())
    for line in read_lines(file):
        if not line.whole:
            if len(line.body) < MAX_LINE_BYTES // 2:
                tail.torn_bytes = os.fstat(file.fileno()).st_size - line.offset
            else:
                tail.damaged_line = line.number
            break
        record = _good(line, tail.hash or _named_before(line))
        if record is None:
            tail.damaged_line = line.number
            break
        tail.closed = is_closing(record)
        if tail.closed:
            tail.root_before = str(record.detail.get("root", ""))
        else:
            tail.tree.add(line.hash)
        tail.hash, tail.last, tail.first = line.hash, record, tail.first or record
        if tail.reference is None or record.action == "clock:jump" or record.mono_us < tail.reference.mono_us:
            tail.reference = record
        tail.num_bytes = line.offset + HASH_CHARS + 2 + len(line.body)
    if tail.last is not None:
        tail.head = Head(chain=chain, segment=number, seq=tail.last.seq, hash=tail.hash.hex())
    return tail


def _go_on_from_before(tail: Tail, root: Path, chain: ChainName, number: int) -> None:
    """Use the end of the previous segment if the last one has no valid line: its writer died while writing the
    first.
    """
    tail.hash = genesis(chain)
    tail.head = Head(chain=chain, segment=number, seq=0, hash=tail.hash.hex())
    before = segment_path(root, chain, number - 1)
    line = last_line(before) if number > 1 and before.exists() else None
    if line is None:
        return
    try:
        tail.last = decode(line.body)
    except UNDECODABLE:
        return
    tail.hash, tail.reference = line.hash, tail.last
    tail.head = Head(chain=chain, segment=number, seq=tail.last.seq, hash=line.hash.hex())
    if is_closing(tail.last):
        tail.root_before = str(tail.last.detail.get("root", ""))


def _named_before(line: Line) -> bytes:
    """Return the hash that the first line of a segment names as the end of the previous one."""
    try:
        return bytes.fromhex(str(decode(line.body).detail.get("previous", "")))
    except (*UNDECODABLE, ValueError):
        return b""


def _good(line: Line, before: bytes) -> Record | None:
    if linked(before, line.body) != line.hash:
        return None
    try:
        return decode(line.body)
    except UNDECODABLE:
        return None


def is_closing(record: Record) -> bool:
    """Return whether a record is the last of its segment."""
    return record.kind == "chain" and record.action == "segment:close"


def last_line(path: Path) -> Line | None:
    """Return the last complete line of a segment without reading the lines before it; None if there is none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        step, start = 4096, end
        data = b""
        while start > 0 and len(data) < MAX_LINE_BYTES:
            start = max(0, start - step)
            file.seek(start)
            data = file.read(end - start)
            whole = data.rfind(b"\n")
            begin = data.rfind(b"\n", 0, whole) if whole > 0 else -1
            if whole >= 0 and (begin >= 0 or start == 0):
                raw = data[begin + 1 : whole + 1]
                claimed = claimed_hash(raw)
                return Line(0, start + begin + 1, claimed, raw[HASH_CHARS + 1 : -1], True)
            step *= 8
    return None


def last_record(path: Path) -> tuple[Line, Record] | None:
    """Return the last complete line of a segment with its record; None if there is no readable one."""
    line = last_line(path)
    if line is None:
        return None
    try:
        return line, decode(line.body)
    except UNDECODABLE:
        return None
