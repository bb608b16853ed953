"""Moves old segments to an archive: a folder or a bucket, where they can be verified and searched as here.

A segment is removed here only when it is closed, old enough, and its copy has been read back and compared. A signed
checkpoint then records where the local chain begins, so that any other missing segment is detected.

A prefix in a bucket of any S3 server, as anchors and the archive use it: objects are made once and never replaced.

Object lock with a default retention, set by the owner of the bucket, protects it against an administrator.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from ashore.control.audit.fed import first_needed
from ashore.core.errors import NotFound, SourceUnreachable, TamperedAudit
from ashore.data.audit import ChainName, Record
from ashore.data.audit.checkpoints import ChainHead, Checkpoints
from ashore.data.audit.segments import SEGMENT, Line, chains_in, is_closing, last_record, segment_path, segments_of
from ashore.kit.bucket import Bucket
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import locked
from ashore.kit.wholefile import write_whole

DAY_US: Final = 86_400_000_000


class BucketFolder(Bucket):
    """`s3://BUCKET/PATH`."""

    def make(self, name: str, data: bytes) -> bool:
        """Create an object. May be called twice with the same bytes.

        Raises:
            TamperedAudit: there is one with other bytes.
        """
        if not super().make(name, data) and self.read(name) != data:
            raise TamperedAudit(
                f"{self.place}/{name} already exists with different content", hint="run `ashore audit verify`"
            )
        return True

    def names(self, under: str) -> Iterator[str]:
        """Yield the names of the objects in a folder, in S3's alphabetical order."""
        return (name for name, _ in self.sizes(under))


class Archive(Protocol):
    """Stores whole segments. ashore creates objects once, and never replaces or removes them."""

    @property
    def place(self) -> str:
        """Where it is, as an operator wrote it."""
        ...

    def keep(self, name: str, data: bytes) -> None:
        """Store a segment. May be called twice with the same bytes.

        Raises:
            TamperedAudit: it has different bytes under this name.
            SourceUnreachable: it cannot be reached or written.
        """
        ...

    def read(self, name: str) -> bytes:
        """Return a segment.

        Raises:
            NotFound: there is none of this name.
        """
        ...

    def names(self, under: str) -> Iterator[str]:
        """Yield the names in a folder."""
        ...


class FolderArchive:
    """A folder, such as a mounted share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def place(self) -> str:
        return str(self._folder)

    def keep(self, name: str, data: bytes) -> None:
        target = self._folder / name
        try:
            make_folder(target.parent, mode=0o700)
            if target.exists():
                if target.read_bytes() != data:
                    raise TamperedAudit(
                        f"{target} already exists with different content", hint="run `ashore audit verify`"
                    )
                return
            write_whole(target, data, mode=0o400)
        except OSError as fault:
            raise SourceUnreachable(f"the archive {target} cannot be written: {fault.strerror}") from fault

    def read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError as fault:
            raise NotFound(f"{self._folder / name} does not exist") from fault
        except OSError as fault:
            raise SourceUnreachable(f"{self._folder / name} cannot be read: {fault.strerror}") from fault

    def names(self, under: str) -> Iterator[str]:
        for path in sorted((self._folder / under).rglob("*.log")):
            yield str(path.relative_to(self._folder))


class BucketArchive:
    """`s3://BUCKET/PATH`. With object lock on the bucket, segments cannot be removed before their time."""

    def __init__(self, place: str) -> None:
        self._folder = BucketFolder(place)

    @property
    def place(self) -> str:
        return self._folder.place

    def keep(self, name: str, data: bytes) -> None:
        self._folder.make(name, data)

    def read(self, name: str) -> bytes:
        return self._folder.read(name)

    def names(self, under: str) -> Iterator[str]:
        yield from self._folder.names(under)


def open_archive(place: str) -> Archive:
    """Return an archive by its place: a folder or `s3://BUCKET/PATH`. Connects on first use."""
    return BucketArchive(place) if place.startswith("s3://") else FolderArchive(Path(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """One segment that was copied."""

    chain: ChainName
    segment: int
    num_bytes: int
    sha256: str
    removed: bool
    """Whether it left this machine."""


def archive_segments(
    root: Path,
    home: str,
    archive: Archive,
    checkpoints: Checkpoints,
    *,
    now_us: int,
    after_days: int,
    known: Mapping[str, int] = MappingProxyType({}),
    goes_on: Callable[[], bool] = lambda: True,
    done: list[Archived] | None = None,
) -> list[Archived]:
    """Copy closed segments, and remove those older than `after_days` from this machine; return what was done.

    May be called twice, and may crash anywhere: the next call resumes. Concurrent calls take turns.

    Args:
        root: Folder of the audit.
        home: Name of the home.
        archive: Destination.
        checkpoints: Of the home.
        now_us: The time.
        after_days: Shortest time that a segment stays here.
        known: By chain, the last segment copied and read back: those are skipped until they are old.
        goes_on: Called before each segment; False finishes the call early.
        done: Receives each result at once, also if an error follows.

    Raises:
        AshoreError: the archive cannot be reached, or has different bytes; that segment was not removed.
    """
    done = [] if done is None else done
    with locked(root / "archive.lock"):
        last = checkpoints.last()
        heads = {head.chain: head for head in last.checkpoint().chains} if last else {}
        firsts: dict[str, ChainHead] = {}
        try:
            for chain in chains_in(root):
                before_us, known_to = now_us - after_days * DAY_US, known.get(chain, 0)
                for one, first in _copies(
                    root, home, archive, chain, heads.get(chain), before_us=before_us, known=known_to, goes_on=goes_on
                ):
                    done.append(one)
                    if first is not None:
                        firsts[chain] = first
        finally:  # completely copied segments may be removed, whatever follows
            if firsts:
                checkpoints.make(
                    now_us, force=True, firsts=firsts
                )  # sign first: every removal is covered by a signature
                for one in done:
                    if one.removed:
                        segment_path(root, one.chain, one.segment).unlink(missing_ok=True)
    return done


def _copies(
    root: Path,
    home: str,
    archive: Archive,
    chain: ChainName,
    head: ChainHead | None,
    *,
    before_us: int,
    known: int,
    goes_on: Callable[[], bool],
) -> Iterator[tuple[Archived, ChainHead | None]]:
    """Copy segments of one chain; yield each and, if it may be removed, the new beginning of the local chain."""
    for number, line, record, leaves in _closed(root, chain, head, before_us=before_us):
        if number <= known and not leaves:
            continue
        if not goes_on():
            return
        data = segment_path(root, chain, number).read_bytes()
        name = segment_name(home, chain, number)
        archive.keep(name, data)
        if archive.read(name) != data:
            raise TamperedAudit(f"{archive.place}/{name} reads back different from what was written", hint="try again")
        one = Archived(
            chain=chain,
            segment=number,
            num_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            removed=leaves,
        )
        first: ChainHead | None = None
        if leaves and head is not None:
            first = msgspec.structs.replace(head, after_hash=line.hash.hex(), after_seq=record.seq, first=number + 1)
        yield one, first


def _closed(
    root: Path, chain: ChainName, head: ChainHead | None, *, before_us: int
) -> Iterator[tuple[int, Line, Record, bool]]:
    """Yield the closed segments of a chain with their last record, and whether they may be removed: they are old
    enough, and no feed waits for them."""
    leaves = head is not None  # only a contiguous prefix: the clock may have been set back in between
    needed = first_needed(root, chain)
    for number in segments_of(root, chain)[:-1]:
        found = last_record(segment_path(root, chain, number))
        if found is None or not is_closing(found[1]):
            return  # damaged: it stays in place, as evidence
        line, record = found
        leaves = leaves and record.at_us <= before_us and (needed is None or number < needed)
        yield number, line, record, leaves


def archivable(root: Path, checkpoints: Checkpoints, *, now_us: int, after_days: int) -> tuple[int, int]:
    """Return how many closed segments `archive_segments` would consider, and how many it would remove. Reads the last
    record of each, and no archive.
    """
    last = checkpoints.last()
    heads = {head.chain: head for head in last.checkpoint().chains} if last else {}
    before_us = now_us - after_days * DAY_US
    leaving = [
        leaves
        for chain in chains_in(root)
        for _, _, _, leaves in _closed(root, chain, heads.get(chain), before_us=before_us)
    ]
    return len(leaving), sum(leaving)


def segment_name(home: str, chain: ChainName, number: int) -> str:
    """Return the name of a segment in an archive."""
    return f"{home}/{chain}/{number:08}.log"


class ArchiveShelf:
    """The local segments and, before them, those of an archive, fetched one at a time."""

    is_whole = True

    def __init__(self, root: Path, home: str, archive: Archive) -> None:
        self._root, self._home, self._archive = root, home, archive
        self._scratch = tempfile.TemporaryDirectory(prefix="ashore-audit-")

    def chains(self) -> list[ChainName]:
        there = {name.split("/")[1] for name in self._archive.names(self._home)}
        return sorted({*chains_in(self._root), *(ChainName(name) for name in there)})

    def numbers(self, chain: ChainName) -> list[int]:
        names = (name.rsplit("/", 1)[-1] for name in self._archive.names(f"{self._home}/{chain}"))
        there = {int(match[1]) for match in map(SEGMENT.fullmatch, names) if match}
        return sorted({*segments_of(self._root, chain), *there})

    def path(self, chain: ChainName, number: int) -> Path:
        here = segment_path(self._root, chain, number)
        if here.exists():
            return here
        target = Path(self._scratch.name) / f"{chain}.log"
        target.write_bytes(self._archive.read(segment_name(self._home, chain, number)))
        return target

    def close(self) -> None:
        """Delete the fetched segments. May be called twice."""
        self._scratch.cleanup()
