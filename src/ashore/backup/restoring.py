"""Restoring from the nodes and the recovery key alone: a whole home onto an empty one, or one model into a home.

A whole home is first laid down beside itself, in `.restoring/` of the home: each file whole or not at all. Then the
models are put into the store and the rest is moved to its places, the state last. While `.restoring` is there the home
does not start. A restore that died goes on where it stopped when it is given again.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ashore.backup.code import parse_code
from ashore.backup.contents import ENVELOPES, STATE
from ashore.backup.disk import Disk
from ashore.backup.home import BackupHome
from ashore.backup.keys import VaultKey, unwrap
from ashore.backup.model import (
    FORMAT,
    Commit,
    FileEntry,
    Listing,
    ModelEntry,
    NodeMark,
    ObjectRef,
    RestoreReport,
    Vault,
)
from ashore.backup.nodes import NodeOpener, open_node, unknown_place
from ashore.backup.objects import Objects, open_objects
from ashore.backup.ports import Node
from ashore.backup.running import Told
from ashore.backup.vault import COMMITS, OBJECTS, NodeView, Reading, look, read_commits, read_mark
from ashore.core import Digest, did_you_mean, human_bytes
from ashore.errors import (
    AshoreError,
    Conflict,
    CorruptBlob,
    DiskFull,
    NotFound,
    RecoveryKeyWrong,
    TooFewNodes,
    UnknownModel,
)
from ashore.store import BlobCopy, ModelCopy, ModelStore

STAGING: Final = ".restoring"
HARMLESS: Final = frozenset(("lock", "run", "logs", "cache", STAGING))
"""What may lie in a home that counts as empty."""
SPARE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A backup that the recovery key opens, as it lies on the nodes that were named."""

    vault: Vault
    reading: Reading
    notes: tuple[str, ...]


def find_backup(places: Sequence[str], recovery: bytes, *, opener: NodeOpener = open_node) -> Found:
    """Return the backup on these nodes that the recovery key opens. Reads marks and commits, no content.

    Raises:
        RecoveryKeyWrong: it opens none of them; said before anything else is read.
        TooFewNodes: fewer than `k` nodes of the backup are there.
        NotFound: nothing was backed up yet.
    """
    marked: list[tuple[Node, NodeMark]] = []
    notes: list[str] = []
    for place in places:
        node = opener(place)
        try:
            marked.append((node, read_mark(node)))
        except NotFound:
            notes.append(f"{place} has no mark of a backup: the disk may not be mounted")
        except AshoreError as error:
            notes.append(error.message)
    if not marked:
        raise TooFewNodes(f"none of the nodes named has a backup: {'; '.join(notes)}", hint="mount them, name others")
    key = _opened(marked, recovery)
    ours = [(node, mark) for node, mark in marked if mark.vault_id == key.vault_id]
    notes += [f"{n.place} belongs to another backup" for n, mark in marked if mark.vault_id != key.vault_id]
    code = parse_code(ours[0][1].code)
    by_index = {mark.index: (node, mark) for node, mark in ours}
    views = tuple(_view(index, *by_index[index]) for index in sorted(by_index))
    reading = read_commits(code, key, views)
    notes += [view.says for view in reading.views if view.says]
    if len(reading.good) < code.k:
        raise TooFewNodes(
            f"{len(reading.good)} of the nodes named work, and {code.k} are needed ({code}): {'; '.join(notes)}",
            hint="name more of its nodes",
        )
    if not reading.commits:
        raise NotFound("nothing was ever backed up there", hint="ashore backup run, on the home that has something")
    gone = [index for index in range(code.n) if index not in by_index]
    vault = Vault(
        format=FORMAT,
        vault_id=key.vault_id,
        code=str(code),
        places=tuple(by_index[i][0].place if i in by_index else unknown_place(i) for i in range(code.n)),
        node_ids=tuple(by_index[i][1].node_id if i in by_index else secrets.token_hex(16) for i in range(code.n)),
        writer=secrets.token_hex(8),
        generation=max(reading.commits),
        backed_up_s=reading.commits[max(reading.commits)].created_s,
    )
    if len(gone) > code.n - code.quorum:
        notes.append(
            f"only {len(by_index)} of {code.n} nodes answer: a backup newer than {vault.generation} may lie on others"
        )
    return Found(vault=vault, reading=reading, notes=tuple(notes))


def find_own(home: BackupHome, *, opener: NodeOpener = open_node) -> Found:
    """Return the backup of a home that lives, by its own key.

    Raises:
        NotFound: it has none, or nothing was backed up yet.
        TooFewNodes: fewer than `k` nodes work.
    """
    vault = home.read()
    reading = look(vault, home.read_key(), [opener(place) for place in vault.places])
    says = tuple(view.says for view in reading.views if view.says)
    if len(reading.good) < reading.code.k:
        raise TooFewNodes(
            f"{len(reading.good)} nodes work, and {reading.code.k} are needed: {'; '.join(says)}",
            hint="mount or mend them",
        )
    if not reading.commits:
        raise NotFound("nothing was backed up yet", hint="ashore backup run")
    return Found(vault=vault, reading=reading, notes=says)


class Restore:
    """One restore from one backup."""

    def __init__(self, found: Found, *, told: Told, generation: int = 0) -> None:
        """Make the object.

        Args:
            found: The backup.
            told: Hears how far it is.
            generation: Which backup; 0: the newest.

        Raises:
            NotFound: there is none of this number; names those there are.
        """
        commits = found.reading.commits
        number = generation or max(commits)
        if number not in commits:
            raise NotFound(
                f"there is no backup {number} on these nodes", hint=f"there are {', '.join(map(str, sorted(commits)))}"
            )
        self._found = found
        self._commit: Commit = commits[number]
        self._told = told
        self._done = 0

    def home(self, root: Path, store: Callable[[], ModelStore]) -> RestoreReport:
        """Restore everything into an empty home, which must not run: whoever calls holds its lock.

        Raises:
            Conflict: the home is not empty.
            DiskFull: there is not room enough; said before anything is written.
            BackupDamaged: too few good shards of something are within reach.
        """
        refuse_full_home(root)
        staging = root / STAGING
        staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_objects(self._found.reading) as objects:
            listing = objects.listing(self._commit)
            _refuse_without_room(root, listing)
            for entry in listing.files:
                self._stage(objects, entry.object, _file_of(staging, entry), entry.path)
            self._stage_blobs(objects, staging, listing.models)
        _put_back(store(), staging, listing.models)
        _move_in(root, staging, listing.files)
        home = BackupHome(root)
        home.write_key(self._found.reading.key)
        home.write(self._found.vault)
        shutil.rmtree(staging)
        Disk().sync_folder(root)
        return self._report(listing.files, listing.models)

    def model(self, root: Path, ref: str, store: ModelStore) -> RestoreReport:
        """Restore the models of one name, or one variant, into a home, as a pull would: it may run meanwhile.

        What is in the store and whole stays; what is damaged there is replaced.

        Raises:
            UnknownModel: the backup has none of this name; names the nearest.
            Conflict: the name is taken by another model.
        """
        staging = root / STAGING
        if staging.exists():
            raise Conflict(f"a restore into {root} was cut off", hint="give that command again first")
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
            for blob in model.blobs:
                target = _blob_of(staging, blob.digest)
                what = f"blob {blob.digest[7:19]} of {model.reference}"
                self._stage(objects, blob.object, target, what)

    def _stage(self, objects: Objects, ref: ObjectRef, target: Path, what: str) -> None:
        """Write an object to a file, whole or not at all; one that is there already is whole."""
        if target.exists() and target.stat().st_size == ref.num_bytes:
            return
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        Disk().sync_folder(target.parent)
        self._done += done

    def _report(self, files: Sequence[FileEntry], models: Sequence[ModelEntry]) -> RestoreReport:
        blobs = {blob.digest: blob.object.num_bytes for model in models for blob in model.blobs}
        return RestoreReport(
            generation=self._commit.generation,
            created_s=self._commit.created_s,
            num_files=len(files),
            models=tuple(model.reference for model in models if model.tagged),
            num_bytes=sum(blobs.values()) + sum(entry.object.num_bytes for entry in files),
            notes=self._found.notes,
        )


def refuse_full_home(root: Path) -> None:
    """Raise `Conflict` unless a home is empty, or holds only a restore that was cut off."""
    if (root / STAGING).exists() or not root.exists():
        return
    there = sorted(name for name in os.listdir(root) if name not in HARMLESS and not _is_empty(root / name))
    if there:
        raise Conflict(
            f"the home {root} is not empty: it has {', '.join(there[:5])}",
            hint="restore into a new one: ASHORE_HOME=DIR; or one model into this one: ashore backup restore MODEL",
        )


def _is_empty(path: Path) -> bool:
    """Tell whether a folder holds nothing that anybody made: a store that was only opened has three small files."""
    if not path.is_dir() or path.is_symlink():
        return False
    made = {"oci-layout", "index.json", "lock"} if path.name == "store" else set()
    files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return all(file.name in made and file.stat().st_size < 200 for file in files)


def _opened(marked: Sequence[tuple[Node, NodeMark]], recovery: bytes) -> VaultKey:
    """Return the key of the first backup that the recovery key opens."""
    refusals: list[RecoveryKeyWrong] = []
    for _, mark in marked:
        try:
            return unwrap(mark.vault_id, mark.envelope, recovery)
        except RecoveryKeyWrong as error:
            refusals.append(error)
    raise refusals[0]


def _view(index: int, node: Node, mark: NodeMark) -> NodeView:
    """Return a node as it is; on which file system it lies does not matter to who only reads."""
    try:
        sizes = {**node.sizes(COMMITS), **node.sizes(OBJECTS)}
    except AshoreError as error:
        return NodeView(index=index, node=node, condition="away", says=error.message)
    return NodeView(index=mark.index, node=node, condition="good", sizes=sizes)


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
            f"{root} has {human_bytes(free)} free, and {human_bytes(need)} are needed",
            hint="give ASHORE_HOME a larger disk; nothing was written",
        )


def _put_back(store: ModelStore, staging: Path, models: Sequence[ModelEntry]) -> None:
    copies = [
        ModelCopy(
            name=model.name,
            variant=model.variant,
            digest=Digest(model.digest),
            tagged=model.tagged,
            created_s=model.created_s,
            blobs=tuple(BlobCopy(digest=Digest(b.digest), num_bytes=b.object.num_bytes) for b in model.blobs),
        )
        for model in models
    ]
    store.put_back(copies, lambda digest: _blob_of(staging, digest))


def _move_in(root: Path, staging: Path, files: Iterable[FileEntry]) -> None:
    """Move staged files to their places, the state last; those that are moved already are left."""
    for entry in sorted(files, key=lambda one: (one.path == STATE, one.path)):
        source, target = _file_of(staging, entry), root / entry.path
        if not source.exists():
            continue
        folder = target.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        source.chmod(entry.mode)
        os.replace(source, target)
        Disk().sync_folder(folder)


def _file_of(staging: Path, entry: FileEntry) -> Path:
    """Return where a file is staged.

    Raises:
        CorruptBlob: its path leaves the home.
    """
    parts = entry.path.split("/")
    if entry.path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise CorruptBlob(f"the path {entry.path!r} in the backup leaves the home", hint="trust this backup no further")
    return staging / "files" / entry.path


def _blob_of(staging: Path, digest: str) -> Path:
    return staging / "blobs" / digest.removeprefix("sha256:")


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    """Turn a full disk into `DiskFull`."""
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk of {target} is full", hint="free some room and give the same command again; it goes on"
            ) from fault
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
