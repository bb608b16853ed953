"""Restores from the nodes and the recovery key only: a whole home onto an empty one, or one model into a home.

A whole home is first staged in its `.restoring/`, each file atomically. Then the models are put into the store and the
rest is moved into place, the state last. While `.restoring` exists the home does not start. A crashed restore resumes
when it is run again.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from ashore.control.backup.contents import ENVELOPES, STATE
from ashore.control.backup.finding import Found
from ashore.control.backup.home import BackupHome
from ashore.control.backup.model import BlobEntry, Commit, FileEntry, Listing, ModelEntry, ObjectRef, RestoreReport
from ashore.control.backup.objects import Objects, open_objects
from ashore.control.backup.running import Told
from ashore.core.bytesize import human_bytes
from ashore.core.errors import Conflict, CorruptBlob, DiskFull, NotFound, UnknownModel
from ashore.core.ids import Digest
from ashore.core.nearest import did_you_mean
from ashore.core.timespan import human_moment
from ashore.kit.copied import copied
from ashore.kit.folders import make_folder
from ashore.kit.recordfile import read_record, write_record
from ashore.kit.store import AttachedCopy, BlobCopy, ModelCopy, ModelStore
from ashore.kit.wholefile import sync_folder

STAGING: Final = ".restoring"
HARMLESS: Final = frozenset(("lock", "run", "logs", "cache", STAGING))
"""What may lie in a home that counts as empty."""
SPARE_BYTES: Final = 64 << 20


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """`begun.json` of the staging folder: identifies the backup being restored."""

    vault_id: str
    generation: int
    run_id: str
    is_moving: bool = False
    """Some of it may be in its place already."""


class Restore:
    """One restore from one backup."""

    def __init__(self, found: Found, *, told: Told, generation: int = 0) -> None:
        """Create the object.

        Args:
            found: The backup.
            told: Called with the progress.
            generation: Which backup; 0: the newest.

        Raises:
            NotFound: there is no such backup; the message names the existing ones.
        """
        commits = found.reading.commits
        self._is_newest = not generation
        number = generation or max(commits)
        if number not in commits:
            raise NotFound(
                f"there is no backup {number} on these nodes", hint=f"use one of {', '.join(map(str, sorted(commits)))}"
            )
        self._found = found
        self._commit: Commit = commits[number]
        self._told = told
        self._done = 0
        self._notes: list[str] = []

    def home(self, root: Path, store: Callable[[], ModelStore]) -> RestoreReport:
        """Restore everything into an empty home, which must not run: the caller holds its lock.

        Raises:
            Conflict: the home is not empty.
            DiskFull: there is not enough space; raised before anything is written.
            BackupDamaged: too few good shards of something are reachable.
        """
        refuse_full_home(root)
        staging = root / STAGING
        make_folder(staging, mode=0o700)
        self._go_on(root, staging)
        with open_objects(self._found.reading) as objects:
            listing = objects.listing(self._commit)
            _refuse_without_room(root, listing)
            for entry in listing.files:
                self._stage(objects, entry.object, _file_of(staging, entry), entry.path)
            self._stage_blobs(objects, staging, listing.models)
        write_record(staging / "begun.json", self._begun(is_moving=True))
        _put_back(store(), staging, listing.models)
        _move_in(root, staging, listing.files)
        home = BackupHome(root)
        home.write_key(self._found.reading.key)
        home.write(self._found.vault)
        shutil.rmtree(staging)
        sync_folder(root)
        if any(entry.path == STATE for entry in listing.files):
            made = human_moment(self._commit.created_s)
            self._notes.append(
                f"the state is that of {made}: keys that were revoked, accounts that were disabled and people who were "
                "erased since then are back; revoke, disable and erase them again"
            )
        else:
            self._notes.append(
                "the state database is not in this backup: the home had none yet, or its state is in Postgres; "
                "restore that with its own tools"
            )
        return self._report(listing.files, listing.models)

    def rehearse(self) -> RestoreReport:
        """Read and verify everything that a restore of the whole home would read, and write nothing.

        Raises:
            BackupDamaged: too few good shards of something are reachable.
        """
        with open_objects(self._found.reading) as objects, open(os.devnull, "wb", buffering=0) as nowhere:
            listing = objects.listing(self._commit)
            refs = listing.objects()
            total = sum(ref.num_bytes for ref in refs.values())
            what = {entry.object.file_name: entry.path for entry in listing.files}
            what |= {blob.object.file_name: f"blob {blob.digest[7:19]} of {one.reference}"
                     for one in listing.models for blob in one.all_blobs}  # fmt: skip
            for name, ref in refs.items():
                objects.read(ref, nowhere.fileno(), what=what.get(name, name))
                self._done += ref.num_bytes
                self._told("read", self._done, total)
        return self._report(listing.files, listing.models)

    def model(self, root: Path, ref: str, store: ModelStore) -> RestoreReport:
        """Restore the models of one name, or one variant, into a home, as a pull would; the home may run meanwhile.

        Intact files of the store stay; damaged ones are replaced.

        Raises:
            UnknownModel: the backup has none of this name; the message has the nearest names.
            Conflict: the name is taken by another model.
        """
        staging = root / STAGING
        if staging.exists():
            raise Conflict(f"a restore into {root} was interrupted", hint="run that restore again first")
        scratch = root / "backup" / f"restoring-{os.getpid()}"
        try:
            scratch.mkdir(parents=True, mode=0o700)
            with open_objects(self._found.reading) as objects:
                listing = objects.listing(self._commit)
                models = _chosen(listing, ref)
                _refuse_without_room(root, msgspec.structs.replace(listing, models=models, files=()))
                self._stage_blobs(objects, scratch, models)
                files = [e for e in listing.files if e.path.startswith(ENVELOPES) and not (root / e.path).exists()]
                for entry in files:
                    self._stage(objects, entry.object, _file_of(scratch, entry), entry.path)
            _put_back(store, scratch, models)
            _move_in(root, scratch, files)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self._report(files, models)

    def _stage_blobs(self, objects: Objects, staging: Path, models: Iterable[ModelEntry]) -> None:
        for model in models:
            for blob in model.all_blobs:
                target = _blob_of(staging, blob.digest)
                what = f"blob {blob.digest[7:19]} of {model.reference}"
                self._stage(objects, blob.object, target, what)

    def _stage(self, objects: Objects, ref: ObjectRef, target: Path, what: str) -> None:
        """Write an object to a file, atomically; an existing file is complete."""
        if target.exists() and target.stat().st_size == ref.num_bytes:
            return
        make_folder(target.parent, mode=0o700)
        part = target.with_name(target.name + ".part")
        done = 0

        def hear(more: int) -> None:
            nonlocal done
            done += more
            self._told("restore", self._done + done, 0)

        with _translated(target), open(part, "wb", buffering=0, opener=_private) as file:
            objects.read(ref, file.fileno(), what=what, told=hear)
            os.fsync(file.fileno())
        os.replace(part, target)
        sync_folder(target.parent)
        self._done += done

    def _report(self, files: Sequence[FileEntry], models: Sequence[ModelEntry]) -> RestoreReport:
        blobs = {blob.digest: blob.object.num_bytes for model in models for blob in model.all_blobs}
        return RestoreReport(
            generation=self._commit.generation,
            created_s=self._commit.created_s,
            num_files=len(files),
            models=tuple(model.reference for model in models if model.tagged),
            num_bytes=sum(blobs.values()) + sum(entry.object.num_bytes for entry in files),
            notes=(*self._found.notes, *self._notes),
        )

    def _begun(self, *, is_moving: bool = False) -> _Begun:
        return _Begun(
            vault_id=self._found.vault.vault_id,
            generation=self._commit.generation,
            run_id=self._commit.run_id,
            is_moving=is_moving,
        )

    def _go_on(self, root: Path, staging: Path) -> None:
        """Resume an interrupted restore, or delete the staged files of another backup."""
        found = read_record(staging / "begun.json", _Begun)
        if found is not None and found.is_moving:
            there = self._found.reading.commits.get(found.generation)
            is_there = there is not None and there.run_id == found.run_id
            if self._is_newest and there is not None and is_there and there.generation != self._commit.generation:
                self._notes.append(
                    f"backup {self._commit.generation} is newer; this continued {found.generation}, which was begun"
                )
                self._commit = there
            if found != self._begun(is_moving=True):
                raise Conflict(
                    f"a restore of backup {found.generation} into {root} was interrupted while it moved in",
                    hint=f"continue that restore: --generation {found.generation}; or delete {root} and start again",
                )
            return
        if found != self._begun():
            shutil.rmtree(staging / "files", ignore_errors=True)
            write_record(staging / "begun.json", self._begun())


def refuse_full_home(root: Path) -> None:
    """Raise `Conflict` unless a home is empty, or contains only an interrupted restore."""
    if (root / STAGING).exists() or not root.exists():
        return
    there = sorted(name for name in os.listdir(root) if name not in HARMLESS and not _is_empty(root / name))
    if there:
        raise Conflict(
            f"the home {root} is not empty: it has {', '.join(there[:5])}",
            hint="restore into a new home: ASHORE_HOME=DIR; or only one model: ashore backup restore MODEL",
        )


def _is_empty(path: Path) -> bool:
    """Return whether a folder has no user data: a store that was only opened has three small files."""
    if not path.is_dir() or path.is_symlink():
        return False
    made = {"oci-layout", "index.json", "lock"} if path.name == "store" else set()
    files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return all(file.name in made and file.stat().st_size < 200 for file in files)


def _chosen(listing: Listing, ref: str) -> tuple[ModelEntry, ...]:
    chosen = tuple(one for one in listing.models if one.tagged and ref in (one.name, one.reference, one.digest))
    if not chosen:
        names = {one.reference for one in listing.models if one.tagged}
        raise UnknownModel(f"the backup has no model {ref!r}", hint=did_you_mean(ref, names))
    return chosen


def _refuse_without_room(root: Path, listing: Listing) -> None:
    need = sum(ref.num_bytes for ref in listing.objects().values()) + SPARE_BYTES
    disk = os.statvfs(root)
    done = sum(f.stat().st_size for f in (root / STAGING).rglob("*") if f.is_file()) if (root / STAGING).exists() else 0
    free = disk.f_bavail * disk.f_frsize + done
    if need > free:
        raise DiskFull(
            f"{root} has {human_bytes(free)} free, but {human_bytes(need)} are needed",
            hint="set ASHORE_HOME to a larger disk; nothing was written",
        )


def _put_back(store: ModelStore, staging: Path, models: Sequence[ModelEntry]) -> None:
    copies = [
        copied(
            ModelCopy,
            model,
            digest=Digest(model.digest),
            blobs=_copies_of(model.blobs),
            attached=tuple(
                AttachedCopy(digest=Digest(one.digest), blobs=_copies_of(one.blobs)) for one in model.attached
            ),
        )
        for model in models
    ]
    store.put_back(copies, lambda digest: _blob_of(staging, digest))


def _copies_of(blobs: Iterable[BlobEntry]) -> tuple[BlobCopy, ...]:
    return tuple(BlobCopy(digest=Digest(blob.digest), num_bytes=blob.object.num_bytes) for blob in blobs)


def _move_in(root: Path, staging: Path, files: Iterable[FileEntry]) -> None:
    """Move staged files into place, the state last; skips those already moved."""
    for entry in sorted(files, key=lambda one: (one.path == STATE, one.path)):
        source, target = _file_of(staging, entry), root / entry.path
        if not source.exists():
            continue
        folder = target.parent
        make_folder(folder, mode=0o700)
        source.chmod(entry.mode)
        os.replace(source, target)
        sync_folder(folder)


def _file_of(staging: Path, entry: FileEntry) -> Path:
    """Return the staging path of a file."""
    parts = entry.path.split("/")
    if entry.path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise CorruptBlob(f"the path {entry.path!r} in the backup leaves the home", hint="do not trust this backup")
    return staging / "files" / entry.path


def _blob_of(staging: Path, digest: str) -> Path:
    return staging / "blobs" / digest.removeprefix("sha256:")


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    """Translate a full disk into `DiskFull`."""
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk of {target} is full", hint="free some space and run the same command again; it continues"
            ) from fault
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
