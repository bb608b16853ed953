"""Verifies that the audit log is unaltered: reads every line once, and reports the first wrong one.

Needs only the audit folder; trusts no index, and no key in the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ashore.data.audit.canonical import MAX_LINE_BYTES, decode
from ashore.data.audit.chain import MerkleTree, genesis, linked
from ashore.data.audit.model import FORMAT, ChainName, Record
from ashore.data.audit.segments import Line, is_closing, read_lines, segment_path, segments_of
from ashore.kit.decode import UNDECODABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The first fault of a chain, or of the checkpoints."""

    file: str
    line: int
    """From 1; 0: the file as a whole."""
    seq: int
    """Of the record that was expected there."""
    what: str
    """What was seen and what was expected."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """A record that a signature covers."""

    seq: int
    hash: str
    by: str
    """`checkpoint 12`."""


@dataclass(slots=True, kw_only=True)
class ChainReport:
    """Result for one chain."""

    chain: ChainName
    segments: int = 0
    records: int = 0
    first_seq: int = 0
    last_seq: int = 0
    last_hash: str = ""
    vouched_seq: int = 0
    """Last record that a signed checkpoint speaks of, itself or through one behind it."""
    torn_bytes: int = 0
    """Of a line that is being written, or whose writer died."""
    problem: Problem | None = None


@dataclass(slots=True)
class _Walk:
    """Position in a chain."""

    report: ChainReport
    hash: bytes
    seq: int = 0
    tree: MerkleTree = field(default_factory=MerkleTree)
    closed: bool = True
    root: str = ""
    vouched: Iterator[Vouched] = field(default_factory=lambda: iter(()))
    next_: Vouched | None = None


class _Wrong(Exception):
    """The chain cannot be read further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def verify_local(root: Path, chain: ChainName) -> ChainReport:
    """Verify a chain in a folder without checkpoints, and return the result."""
    return verify_chain(chain, segments_of(root, chain), lambda number: segment_path(root, chain, number))


def verify_chain(
    chain: ChainName,
    numbers: Sequence[int],
    path_of: Callable[[int], Path],
    *,
    vouched: Iterator[Vouched] | None = None,
    first: tuple[int, int, str] | None = None,
) -> ChainReport:
    """Verify a chain and return the result. Holds one line in memory.

    Args:
        chain: Its name.
        numbers: Its segments, sorted.
        path_of: Returns the file of a segment; it is read before the next call.
        vouched: Heads in signed checkpoints, in the order of `seq`; default: none.
        first: Local beginning of the chain if earlier segments were archived: number of the first segment, and seq and
            hash of the record before it.
    """
    report = ChainReport(chain=chain)
    found = list(numbers)
    start, seq, before = first or (1, 0, genesis(chain).hex())
    vouched = iter(()) if vouched is None else vouched
    walk = _Walk(report, bytes.fromhex(before), seq, vouched=vouched)
    report.first_seq = seq + 1
    walk.next_ = next(vouched, None)
    while walk.next_ is not None and walk.next_.seq <= seq:
        report.vouched_seq = walk.next_.seq
        walk.next_ = next(vouched, None)
    try:
        for at, number in enumerate(found):
            if number != start + at:
                raise _wrong(
                    Path(f"{chain}/{start + at:08}.log"),
                    0,
                    walk,
                    f"segment {start + at} is missing; the next one is {number}",
                )
            _walk_segment(path_of(number), number, walk, last=at == len(found) - 1)
            report.segments += 1
        if walk.next_ is not None:
            missing = walk.next_
            raise _wrong(
                path_of(found[-1]) if found else Path(chain),
                0,
                walk,
                f"{chain} ends at record {walk.seq}; {missing.by} covers record {missing.seq}: its tail is missing",
            )
    except _Wrong as wrong:
        report.problem = wrong.problem
    report.last_seq, report.last_hash = walk.seq, walk.hash.hex()
    report.records = walk.seq - seq
    return report


def _walk_segment(path: Path, number: int, walk: _Walk, *, last: bool) -> None:
    if not walk.closed:
        raise _wrong(path, 0, walk, f"segment {number - 1} was not closed, but segment {number} follows it")
    if path.exists() and not path.is_file():  # a pipe or a device would block the verifier for ever
        raise _wrong(path, 0, walk, "it is not a file")
    walk.tree, walk.closed = MerkleTree(), False
    line: Line | None = None
    try:
        with path.open("rb") as file:
            for line in read_lines(file):
                if not line.whole:
                    if not last:
                        raise _wrong(
                            path, line.number, walk, "the last line is incomplete, but another segment follows"
                        )
                    if file.read(1):
                        raise _wrong(path, line.number, walk, f"the line is longer than {MAX_LINE_BYTES:,} bytes")
                    walk.report.torn_bytes = len(line.body) + 65
                    return
                if walk.closed:
                    raise _wrong(path, line.number, walk, "a record follows the one that closed the segment")
                _walk_line(path, number, line, walk)
    except OSError as fault:
        raise _wrong(path, 0, walk, f"it cannot be read: {fault.strerror}") from fault
    if not last and not walk.closed:
        raise _wrong(path, line.number if line else 0, walk, "the segment ends without its closing record")


def _walk_line(path: Path, number: int, line: Line, walk: _Walk) -> None:
    expected = linked(walk.hash, line.body)
    if line.hash != expected:
        seen = line.hash.hex()[:16] if line.hash else "no hash"
        raise _wrong(
            path,
            line.number,
            walk,
            f"the hash is {seen}…; expected {expected.hex()[:16]}… from this record and the one before it",
        )
    try:
        record = decode(line.body)
    except UNDECODABLE as fault:
        raise _wrong(path, line.number, walk, f"it is not a record: {fault}") from fault
    if record.seq != walk.seq + 1:
        raise _wrong(path, line.number, walk, f"its number is {record.seq}; expected {walk.seq + 1}")
    if line.number == 1:
        _check_opening(path, number, record, walk)
    walk.hash, walk.seq = line.hash, record.seq
    if is_closing(record):
        walk.closed, walk.root = True, walk.tree.root().hex()
        if record.detail.get("root") != walk.root:
            raise _wrong(path, line.number, walk, "the root hash of the segment does not match its records")
    else:
        walk.tree.add(line.hash)
    _check_vouched(path, line, walk)


def _check_opening(path: Path, number: int, record: Record, walk: _Walk) -> None:
    if record.kind != "chain" or record.action != "segment:open":
        raise _wrong(path, 1, walk, "the segment does not begin with its opening record")
    detail = record.detail
    if detail.get("format") != FORMAT:
        raise _wrong(path, 1, walk, f"its format is {detail.get('format')}; this ashore reads {FORMAT}")
    if detail.get("segment") != number or detail.get("previous") != walk.hash.hex():
        raise _wrong(path, 1, walk, "it names a different position in the chain")
    if walk.root and detail.get("previous_root") != walk.root:
        raise _wrong(path, 1, walk, "it names a different root hash for the previous segment")


def _check_vouched(path: Path, line: Line, walk: _Walk) -> None:
    """Compare with the signatures over this record; several checkpoints may cover one."""
    while walk.next_ is not None and walk.next_.seq == walk.seq:
        if walk.next_.hash != line.hash.hex():
            raise _wrong(
                path,
                line.number,
                walk,
                f"{walk.next_.by} signed the hash {walk.next_.hash[:16]}… for record {walk.seq}, but it has "
                f"{line.hash.hex()[:16]}…: it was rewritten",
            )
        walk.report.vouched_seq = walk.seq
        walk.next_ = next(walk.vouched, None)


def _wrong(path: Path, line: int, walk: _Walk, what: str) -> _Wrong:
    return _Wrong(Problem(file=str(path), line=line, seq=walk.seq + 1, what=what))
