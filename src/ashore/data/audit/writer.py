"""Writes one chain to disk, from one process; returns when the records are on disk.

A template for records of a repeated answer: all but four values are constant and encoded once.

A cached answer is served thousands of times a second, and its records differ only in times, number and request id.
Fields are in alphabetical order, so those four have the same positions in all of them.
"""

from __future__ import annotations

import copy
import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ashore.core.errors import AuditUnavailable, HomeBusy
from ashore.data.audit.canonical import encode, encode_text
from ashore.data.audit.chain import MerkleTree, linked
from ashore.data.audit.model import FORMAT, ChainName, Head, Record, RequestNote, Sealed
from ashore.data.audit.records import act_record, chain_record, jumped, request_record
from ashore.data.audit.segments import chain_folder, read_tail, segment_path
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import try_lock
from ashore.kit.recorder import Act
from ashore.kit.wholefile import sync_folder

_AT, _MONO, _ID, _SEQ = b'"at_us":', b'"mono_us":', b'"request_id":', b'"seq":'
_BLANK: Final = 1
_NOBODY: Final = "-"
"""An empty id would be left out."""
SEGMENT_BYTES: Final = 64 << 20
DAY_US: Final = 86_400_000_000
OPEN: Final = "segment:open"
CLOSE: Final = "segment:close"
JUMP: Final = "clock:jump"
FRAMES: Final = (OPEN, CLOSE)
"""A segment begins and ends with these and nothing else, so a jump of the clock is told with the record behind them."""
FREE_SPACE: Final = "free some space"
YIELD_EVERY: Final = 200
"""Lines made between two offers of the interpreter lock to the threads that answer requests."""


class NoteForm:
    """The record of one principal's request for one cached answer, with blanks."""

    __slots__ = ("_at", "_end", "_id", "_mono", "_seq", "note")

    def __init__(self, note: RequestNote) -> None:
        """Take a note without content; its request id is ignored."""
        self.note = note = msgspec.structs.replace(note, request_id=_NOBODY)
        line = encode(request_record(note, seq=_BLANK, at_us=_BLANK, mono_us=_BLANK))
        # A quote inside a text is escaped, so `"seq":` is a key. Only `masked` has caller-chosen keys. It is between
        # `at_us` and `mono_us`, so the first is searched from the left, and the others from the right.
        at = line.index(_AT) + len(_AT)
        seq = line.rindex(_SEQ) + len(_SEQ)
        id_ = line.rindex(_ID, 0, seq) + len(_ID)
        mono = line.rindex(_MONO, 0, id_) + len(_MONO)
        after_id = id_ + len(encode_text(_NOBODY))
        self._at, self._mono, self._id = line[:at], line[at + 1 : mono], line[mono + 1 : id_]
        self._seq, self._end = line[after_id:seq], line[seq + 1 :]

    def line(self, request_id: str, *, seq: int, at_us: int, mono_us: int) -> bytes:
        """Return the canonical bytes of the record, equal to `canonical.encode`."""
        return b"%b%d%b%d%b%b%b%d%b" % (
            self._at,
            at_us,
            self._mono,
            mono_us,
            self._id,
            encode_text(request_id),
            self._seq,
            seq,
            self._end,
        )


class Draft(msgspec.Struct, frozen=True, gc=False):
    """Something to record, with its time."""

    at_us: int
    mono_us: int
    what: RequestNote | NoteForm | Act | tuple[str, dict[str, str | int]]
    """The last form is what the writer says of its chain: action and detail."""
    request_id: str = ""
    """Of a `NoteForm`, which has a blank for it."""
    sealed: Sealed | None = None
    """What a `RequestNote` carried, as ciphertext."""


@dataclass(slots=True)
class _Cursor:
    """Position of the next record."""

    seq: int
    hash: bytes
    tree: MerkleTree
    reference: Record | None
    """Whose time those behind it are compared with, so that small steps of the clock do not add up unseen: the first of
    a segment, or the last jump."""

    def begins(self, mono_us: int) -> bool:
        """Return whether a record at this moment becomes the new time reference."""
        return self.reference is None or mono_us < self.reference.mono_us

    def take(self, body: bytes, *, leaf: bool = True) -> bytes:
        """Advance past a record; return its line."""
        self.hash = linked(self.hash, body)
        self.seq += 1
        if leaf:
            self.tree.add(self.hash)
        return b"%b %b\n" % (self.hash.hex().encode(), body)


class ChainWriter:
    """Used by one thread. Holds a lock on the chain's folder, which the kernel releases when the process ends."""

    def __init__(self, root: Path, chain: ChainName, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Take the chain and find its end; a torn last line is cut.

        Raises:
            HomeBusy: another process writes this chain.
            AuditUnavailable: the folder cannot be written.
        """
        self.chain = chain
        self.root = root
        self._segment_bytes = segment_bytes
        self._file = -1
        self._number = self._num_bytes = 0
        self._day = -1
        self._dirty = False
        folder = chain_folder(root, chain)
        with disk_faults(folder):
            make_folder(folder, mode=0o700)
            self._lock = _hold(folder / "lock", chain)
            try:
                self._begin()
            except BaseException:
                os.close(self._lock)
                raise

    def _begin(self) -> None:
        tail = read_tail(self.root, self.chain)
        self.torn_bytes = tail.torn_bytes
        """Cut from the end when the chain was taken."""
        self.damaged_line = tail.damaged_line
        """A line of the last segment that somebody changed; 0: none."""
        self._at = _Cursor(tail.head.seq, tail.hash, tail.tree, tail.reference)
        self._number = tail.head.segment
        self._root_before = tail.root_before
        if tail.closed or tail.damaged_line:
            return
        self._file = os.open(segment_path(self.root, self.chain, self._number), os.O_WRONLY | os.O_CLOEXEC)
        self._num_bytes = tail.num_bytes
        os.ftruncate(self._file, self._num_bytes)
        os.lseek(self._file, 0, os.SEEK_END)
        os.fsync(self._file)
        self._day = tail.first.at_us // DAY_US if tail.first is not None else -1

    @property
    def head(self) -> Head:
        """The head of the chain on disk."""
        return Head(chain=self.chain, segment=self._number, seq=self._at.seq, hash=self._at.hash.hex())

    @property
    def segment(self) -> Path:
        """The file that is being written."""
        return segment_path(self.root, self.chain, self._number)

    def append(self, drafts: Sequence[Draft]) -> None:
        """Return when all records are on disk, in this order. After an error none of them counts: call it again.

        Raises:
            AuditUnavailable: the disk is full or cannot be written.
        """
        if not drafts:
            return
        with disk_faults(self.root):
            if self._file >= 0:
                self._check_there()
            if self._dirty:
                self._cut_back()
            if self._file >= 0 and self._is_full(drafts[0]):
                self._close_segment(drafts[0])
            if self._file < 0:
                self._make_segment()
            if self._num_bytes == 0:
                drafts = [self._heading(drafts[0]), *drafts]
            self._write(drafts)

    def _check_there(self) -> None:
        """Check that the file being written is still in place and not shorter.

        Raises:
            AuditUnavailable: it was removed, replaced or cut; further writes would be lost.
        """
        ours = os.fstat(self._file)
        try:
            there = self.segment.stat()
        except FileNotFoundError:
            raise self._gone("was removed") from None
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise self._gone("was replaced")
        if ours.st_size < self._num_bytes or (ours.st_size > self._num_bytes and not self._dirty):
            raise self._gone(f"has {ours.st_size:,} bytes, but {self._num_bytes:,} were written")

    def _gone(self, how: str) -> AuditUnavailable:
        return AuditUnavailable(
            f"{self.segment} {how} while it was being written",
            hint="find the cause (`ashore audit verify --anchor PLACE`); a restart continues with what is there",
        )

    def _is_full(self, next_: Draft) -> bool:
        return self._num_bytes >= self._segment_bytes or (self._num_bytes > 0 and next_.at_us // DAY_US > self._day)

    def _write(self, drafts: Sequence[Draft]) -> None:
        cursor = copy.copy(self._at)
        cursor.tree = cursor.tree.copy()
        data = b"".join(self._lines(drafts, cursor))
        self._dirty = True
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]
        os.fdatasync(self._file)
        self._dirty = False
        self._at = cursor
        self._num_bytes += len(data)

    def _lines(self, drafts: Sequence[Draft], cursor: _Cursor) -> Iterator[bytes]:
        for count, draft in enumerate(drafts):
            if not count % YIELD_EVERY and count:
                time.sleep(0)
            at_us, mono_us = draft.at_us, draft.mono_us
            jump_us = jumped(cursor.reference, at_us=at_us, mono_us=mono_us)
            if jump_us and not _frames(draft):
                detail: dict[str, str | int] = {"by_us": jump_us}
                yield self._told(Draft(at_us, mono_us, (JUMP, detail)), cursor)
            form = draft.what
            if isinstance(form, NoteForm) and not cursor.begins(mono_us):
                seq = cursor.seq + 1
                yield cursor.take(form.line(draft.request_id, seq=seq, at_us=at_us, mono_us=mono_us))
            else:
                yield self._told(draft, cursor)

    def _told(self, draft: Draft, cursor: _Cursor) -> bytes:
        record = self._record(draft, cursor)
        if record.action == JUMP or cursor.begins(record.mono_us):
            cursor.reference = record
        return cursor.take(encode(record), leaf=record.action != CLOSE)

    def _record(self, draft: Draft, cursor: _Cursor) -> Record:
        seq, at_us, mono_us, what = cursor.seq + 1, draft.at_us, draft.mono_us, draft.what
        if isinstance(what, RequestNote):
            return request_record(what, seq=seq, at_us=at_us, mono_us=mono_us, content=draft.sealed)
        if isinstance(what, NoteForm):
            note = msgspec.structs.replace(what.note, request_id=draft.request_id)
            return request_record(note, seq=seq, at_us=at_us, mono_us=mono_us)
        if isinstance(what, Act):
            return act_record(what, seq=seq, at_us=at_us, mono_us=mono_us)
        return chain_record(what[0], what[1], seq=seq, at_us=at_us, mono_us=mono_us)

    def _make_segment(self) -> None:
        path = segment_path(self.root, self.chain, self._number + 1)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._number += 1
        self._num_bytes = 0
        self._at.tree = MerkleTree()
        sync_folder(path.parent)

    def _heading(self, first: Draft) -> Draft:
        """Return the first line of a segment, which contains the end of the previous one."""
        detail: dict[str, str | int] = {"format": FORMAT, "previous": self._at.hash.hex(), "segment": self._number}
        if self._root_before:
            detail["previous_root"] = self._root_before
        if self.damaged_line:
            detail["damaged_line"] = self.damaged_line
        self._day = first.at_us // DAY_US
        return Draft(first.at_us, first.mono_us, (OPEN, detail))

    def _close_segment(self, next_: Draft) -> None:
        """Write the segment's root as its last line, and close it for writing."""
        root = self._at.tree.root().hex()
        detail: dict[str, str | int] = {"records": self._at.tree.num_leaves, "root": root}
        self._write([Draft(next_.at_us, next_.mono_us, (CLOSE, detail))])
        os.fchmod(self._file, 0o400)
        os.close(self._file)
        self._file = -1
        self._root_before = root

    def _cut_back(self) -> None:
        """Remove the remains of a failed write, so that the next one does not follow half a line.

        After a failed fdatasync the kernel may treat the pages as clean, so they are written again.
        """
        os.ftruncate(self._file, self._num_bytes)
        os.lseek(self._file, 0, os.SEEK_END)
        self._dirty = False

    def close(self) -> None:
        """Release the chain. Its segment stays open for the next writer. May be called twice."""
        if self._file >= 0:
            with suppress(OSError):
                if self._dirty:
                    self._cut_back()
            os.close(self._file)
            self._file = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _frames(draft: Draft) -> bool:
    return isinstance(draft.what, tuple) and draft.what[0] in FRAMES


def _hold(path: Path, chain: ChainName) -> int:
    descriptor = try_lock(path)
    if descriptor is None:
        raise HomeBusy(
            f"another process is writing the audit chain {chain!r} in {path.parent.parent.parent}",
            hint="stop the other process; a chain can have only one writer",
        )
    return descriptor


@contextmanager
def disk_faults(where: Path) -> Iterator[None]:
    """Translate disk errors into the error that clients get."""
    try:
        yield
    except OSError as fault:
        ways = {
            errno.ENOSPC: FREE_SPACE,
            errno.EDQUOT: FREE_SPACE,
            errno.EACCES: "make this user its owner",
        }
        raise AuditUnavailable(
            f"cannot write the audit log in {where}: {fault.strerror or fault}",
            hint=ways.get(fault.errno or 0, "repair the disk") + "; no request is served without its audit record",
        ) from fault
