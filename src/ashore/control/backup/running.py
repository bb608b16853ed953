"""One backup: write what the nodes lack, then a commit on every node. Uncommitted data does not count.

    1  look at the nodes; fewer than a quorum: nothing is begun
    2  objects: each is on disk on its nodes before it is noted as done (`pending`): models, files with
       the state, and models that came meanwhile
    3  the listing, an object like the others
    4  the commit, made on one node after the other; from the first one on the backup counts
    5  repair: shards that nodes lack which were away
    6  prune: commits that are too old, then objects that no kept backup refers to

A crash at any point leaves earlier backups intact. The next run reuses completed objects.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from ashore import __version__
from ashore.control.backup.coding import coder_of
from ashore.control.backup.contents import HomeContents, HomeFile, hash_of_start
from ashore.control.backup.home import BackupHome
from ashore.control.backup.model import (
    FORMAT,
    AttachedEntry,
    BlobEntry,
    Commit,
    FileEntry,
    Listing,
    ModelEntry,
    ObjectRef,
    RunReport,
    Vault,
)
from ashore.control.backup.objects import open_objects
from ashore.control.backup.vault import Reading, commit_name, good_shards, make_commit, new_header
from ashore.control.backup.writing import STALL_S, ObjectWriter
from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, Conflict, CorruptBlob, TooFewNodes
from ashore.kit.copied import copied
from ashore.kit.store import BlobCopy, ModelCopy

NOTED_BYTES: Final = 4 << 20
"""Objects from this size on are noted as they are done; smaller ones are written again after a death."""

Told = Callable[[str, int, int], None]
"""Stage, bytes done, bytes in all."""


@dataclass(slots=True)
class _Counts:
    new: int = 0
    new_bytes: int = 0
    written_bytes: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """One running backup of one home. Requires the backup lock."""

    reading: Reading
    vault: Vault
    home: BackupHome
    clock: Clock
    _: KW_ONLY
    told: Told
    stall_s: float = STALL_S
    _known: dict[str, ObjectRef] = field(default_factory=dict, init=False)
    """By the SHA-256 of the content."""
    _counts: _Counts = field(default_factory=_Counts, init=False)

    def run(self, contents: HomeContents, *, only: tuple[str, ...], take_over: bool) -> RunReport:
        """Make the backup; return its report.

        Raises:
            TooFewNodes: fewer nodes work than a backup needs; earlier backups are intact.
            Conflict: another home writes this backup, or another run was faster.
            CorruptBlob: a file of the home is damaged; it was not backed up, and neither was the rest.
        """
        check_quorum(self.reading)
        before = self.reading.newest
        check_writer(before, self.vault, take_over=take_over)
        self._learn(before)
        lanes = self.reading.lanes()
        writer = ObjectWriter(
            lanes,
            coder_of(self.reading.code),
            self.reading.key.data_key,
            least=self.reading.code.quorum,
            stall_s=self.stall_s,
        )
        try:
            models = self._models(writer, contents, only)
            files = tuple(self._file(writer, file) for file in contents.files(self.home.scratch))
            models = self._models(writer, contents, only, models)  # models added since: the state may refer to them
            listing = Listing(
                format=FORMAT, created_s=int(self.clock.now_s()), ashore=__version__, files=files, models=models
            )
            ref = self._listing(writer, listing)
            working = tuple(lane.index for lane in writer.lanes)
            self._counts.notes += writer.failures.words()
        finally:
            writer.close()
            for lane in lanes:
                lane.close()
        commit = Commit(
            format=FORMAT,
            generation=max(self.vault.generation, before.generation if before else 0) + 1,
            run_id=secrets.token_hex(8),
            writer=self.vault.writer,
            created_s=listing.created_s,
            listing=ref,
            nodes=working,
        )
        left = replace(self.reading, views=tuple(v for v in self.reading.views if v.index in working))
        had_it = make_commit(left, commit)
        self.home.write(msgspec.structs.replace(self.vault, generation=commit.generation, backed_up_s=commit.created_s))
        self.home.clear_notes()
        return self._report(commit, listing, had_it)

    def _learn(self, before: Commit | None) -> None:
        """Load what the nodes have already, from the newest backup and from a crashed run."""
        refs: Iterable[ObjectRef] = self.home.read_pending()
        if before is not None:
            try:
                with open_objects(self.reading) as objects:
                    refs = (*refs, *objects.listing(before).objects().values())
            except AshoreError as error:
                self._counts.notes.append(
                    f"backup {before.generation} cannot be read ({error.message}); writing a full backup"
                )
        broken = self.home.read_again()
        for ref in refs:
            if ref.file_name not in broken and len(good_shards(self.reading, ref)) >= self.reading.code.quorum:
                self._known[ref.sha256] = ref

    def _models(
        self,
        writer: ObjectWriter,
        contents: HomeContents,
        only: tuple[str, ...],
        before: Sequence[ModelEntry] = (),
    ) -> tuple[ModelEntry, ...]:
        """Write the blobs of the models; those of `before` stay, even if removed since."""
        entries = {(one.name, one.variant, one.digest): one for one in before}
        named: dict[tuple[str, str], str] = {}
        for copy in contents.models(only):
            entry = self._model(writer, contents, copy)
            if entry is None:
                continue
            entries[copy.name, copy.variant, copy.digest] = entry
            if copy.tagged:
                named[copy.name, copy.variant] = copy.digest
        return tuple(
            msgspec.structs.replace(
                one, tagged=one.tagged and named.get((one.name, one.variant), one.digest) == one.digest
            )
            for one in entries.values()
        )

    def _model(self, writer: ObjectWriter, contents: HomeContents, copy: ModelCopy) -> ModelEntry | None:
        """Write the blobs of one model; None, and a note, if it was removed meanwhile."""
        try:
            blobs = self._blobs(writer, contents, copy, copy.blobs)
        except FileNotFoundError as error:
            if any(one.digest == copy.digest and one.tagged for one in contents.models()):
                raise CorruptBlob(
                    f"a blob of {copy.reference} is missing: {error.filename}",
                    hint=f"pull it again, or restore it: ashore backup restore {copy.name}",
                ) from error
            self._counts.notes.append(f"{copy.reference} was removed during the backup and is not in it")
            return None
        attached = []
        for one in copy.attached:
            try:
                attached.append(AttachedEntry(digest=one.digest, blobs=self._blobs(writer, contents, copy, one.blobs)))
            except FileNotFoundError:
                self._counts.notes.append(
                    f"an attachment of {copy.reference} was replaced by a newer one during the backup"
                )
        return copied(ModelEntry, copy, blobs=blobs, attached=tuple(attached))

    def _blobs(
        self, writer: ObjectWriter, contents: HomeContents, copy: ModelCopy, blobs: Iterable[BlobCopy]
    ) -> tuple[BlobEntry, ...]:
        return tuple(
            BlobEntry(digest=blob.digest, object=self._blob(writer, contents, copy, blob.digest, blob.num_bytes))
            for blob in blobs
        )

    def _blob(
        self, writer: ObjectWriter, contents: HomeContents, copy: ModelCopy, digest: str, num_bytes: int
    ) -> ObjectRef:
        sha256 = digest.removeprefix("sha256:")
        return self._object(
            writer, contents.blob(digest), sha256, num_bytes, what=f"blob {sha256[:12]} of {copy.reference}"
        )

    def _file(self, writer: ObjectWriter, file: HomeFile) -> FileEntry:
        """Write a file. A long one is read once: its hash is computed on the way, unless it may be stored already."""
        sha256 = file.sha256
        if not sha256 and any(ref.num_bytes == file.num_bytes for ref in self._known.values()):
            sha256 = hash_of_start(file.source, file.num_bytes)
        before = _times_of(file.source)
        ref = self._object(writer, file.source, sha256, file.num_bytes, what=file.path)
        if not sha256 and _times_of(file.source) != before:
            raise CorruptBlob(f"{file.path} was changed while it was backed up", hint="back up again")
        return FileEntry(path=file.path, mode=file.mode, object=ref)

    def _listing(self, writer: ObjectWriter, listing: Listing) -> ObjectRef:
        import hashlib

        data = msgspec.json.encode(listing)
        path = self.home.scratch / "listing"
        path.write_bytes(data)
        return self._object(writer, path, hashlib.sha256(data).hexdigest(), len(data), what="the listing")

    def _object(self, writer: ObjectWriter, source: Path, sha256: str, num_bytes: int, *, what: str) -> ObjectRef:
        """Return the object with this content: known, or written now. Without a hash it is always written."""
        known = self._known.get(sha256)
        if known is not None and known.num_bytes == num_bytes:
            return known
        name = self.reading.key.name_of(sha256) if sha256 else secrets.token_hex(16)
        header = new_header(self.reading.key, self.reading.code, name=name, num_bytes=num_bytes)
        done = writer.write(
            source,
            header,
            sha256=sha256,
            what=what,
            told=lambda now: self.told("back up", self._counts.new_bytes + now, 0),
        )
        self._known[done.ref.sha256] = done.ref
        self._counts.new += 1
        self._counts.new_bytes += num_bytes
        self._counts.written_bytes += done.written_bytes
        if num_bytes >= NOTED_BYTES:
            self.home.note_pending(done.ref)
        return done.ref

    def _report(self, commit: Commit, listing: Listing, had_it: tuple[int, ...]) -> RunReport:
        objects = {**listing.objects(), commit.listing.file_name: commit.listing}
        return RunReport(
            generation=commit.generation,
            num_objects=len(objects),
            num_new=self._counts.new,
            clear_bytes=sum(ref.num_bytes for ref in objects.values()),
            new_bytes=self._counts.new_bytes,
            written_bytes=self._counts.written_bytes,
            nodes=had_it,
            notes=tuple(self._counts.notes),
        )


def _times_of(path: Path) -> tuple[int, int, int]:
    """Return the file metadata that changes on a write."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def check_quorum(reading: Reading) -> None:
    """Raise `TooFewNodes` when fewer nodes work than a backup needs."""
    if len(reading.good) < reading.code.quorum:
        why = "; ".join(view.says for view in reading.views if not view.is_good)
        raise TooFewNodes(
            f"only {len(reading.good)} of {reading.code.n} nodes work, but a backup needs {reading.code.quorum}: {why}",
            hint="mount or repair them, or replace them: ashore backup replace",
        )


def check_writer(newest: Commit | None, vault: Vault, *, take_over: bool) -> None:
    """Raise `Conflict` if another home made the newest backup: two writers would prune each other's."""
    if newest is not None and newest.writer != vault.writer and not take_over:
        raise Conflict(
            f"backup {newest.generation} was made by another home ({newest.writer[:8]}; this one is "
            f"{vault.writer[:8]}): this home was restored from it, or another one was and took over",
            hint="if the other home is gone: ashore backup run --take-over; else: ashore backup init",
        )


def prune(reading: Reading, *, keep: int) -> tuple[str, ...]:
    """Delete backups beyond the newest `keep`, then objects that no kept one refers to; return notes.

    Nothing is deleted while a listing cannot be read, because its references are unknown. Only objects that were
    there when the nodes were scanned are deleted.
    """
    kept = sorted(reading.commits)[-keep:]
    refs: set[str] = set()
    with open_objects(reading) as objects:
        for generation in kept:
            commit = reading.commits[generation]
            try:
                refs |= {commit.listing.file_name, *objects.listing(commit).objects()}
            except AshoreError as error:
                return (f"old backups were not deleted: {error.message}",)
    old = [
        (v, n) for v in reading.good for n in sorted(v.sizes) if n.startswith("commits/") and n < commit_name(kept[0])
    ]
    orphans = [(v, n) for v in reading.good for n in sorted(v.sizes) if n.startswith("objects/") and n not in refs]
    try:
        for view, name in (*old, *orphans):  # commits of all nodes first: none may outlive its objects
            view.node.remove(name)
    except AshoreError as error:
        return (f"old backups were not completely deleted: {error.message}",)
    return ()
