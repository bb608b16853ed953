"""Copies whole models out of and into a store, blob by blob, for backups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ashore.core.errors import Conflict, CorruptBlob
from ashore.core.ids import Digest
from ashore.kit.copied import copied
from ashore.kit.store.attachments import adopt
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.layout import IndexEntry
from ashore.kit.store.manifest import descriptors, hash_of, parse_manifest
from ashore.kit.store.shelf import Shelf
from ashore.kit.store.tiers import Tiers


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobCopy:
    """One blob."""

    digest: Digest
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedCopy:
    """An attachment of a model; its manifest is the first of its blobs."""

    digest: Digest
    blobs: tuple[BlobCopy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCopy:
    """One model of the index with all blobs that it needs; its manifest is the first."""

    name: str
    variant: str
    digest: Digest
    tagged: bool
    """False: it has lost its name, and only its digest leads to it."""
    created_s: int
    blobs: tuple[BlobCopy, ...]
    attached: tuple[AttachedCopy, ...] = ()
    """The oldest first."""

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.variant}" if self.variant else self.name


def list_copies(shelf: Shelf, keep: Collection[str]) -> tuple[ModelCopy, ...]:
    """See `ModelStore.copies`."""
    copies = []
    attached = _attached(shelf)
    for entry in shelf.layout.read_index():
        if not entry.tagged and entry.digest not in keep:
            continue
        try:
            blobs = _blobs_of(shelf, entry.digest)
        except FileNotFoundError as error:
            if not any(_same_place(one, entry) for one in shelf.layout.read_index()):
                continue  # removed, and its blobs deleted, since the index was read
            raise CorruptBlob(
                f"the manifest of {entry.name} is missing: {shelf.layout.blob_path(entry.digest)}",
                hint="pull the model again, or restore it: ashore backup restore MODEL",
            ) from error
        copies.append(
            copied(
                ModelCopy,
                entry,
                blobs=tuple(one for one in blobs if not _is_away(shelf, one)),
                attached=tuple(attached.get(entry.digest, ())),
            )
        )
    return tuple(copies)


def _is_away(shelf: Shelf, blob: BlobCopy) -> bool:
    """Return whether a blob is only in a bucket, and cannot be copied from here."""
    return not shelf.layout.blob_path(blob.digest).exists() and Tiers(shelf.layout).copy_of(blob.digest) is not None


def _attached(shelf: Shelf) -> dict[Digest, list[AttachedCopy]]:
    """Return the attachments of models, by digest."""
    found: dict[Digest, list[AttachedCopy]] = {}
    for entry in sorted(shelf.layout.read_attached(), key=lambda one: one.created_s):
        with suppress(FileNotFoundError):  # newer ones have replaced it since the index was read
            one = AttachedCopy(digest=entry.digest, blobs=_blobs_of(shelf, entry.digest))
            found.setdefault(entry.subject, []).append(one)
    return found


def _blobs_of(shelf: Shelf, manifest: Digest) -> tuple[BlobCopy, ...]:
    data = shelf.layout.blob_path(manifest).read_bytes()
    blobs = [BlobCopy(digest=blob.digest, num_bytes=blob.num_bytes) for blob in descriptors(data)]
    return tuple(dict.fromkeys((BlobCopy(digest=manifest, num_bytes=len(data)), *blobs)))


def put_back(shelf: Shelf, copies: Sequence[ModelCopy], staged: Callable[[Digest], Path]) -> None:
    """See `ModelStore.put_back`."""
    with shelf.layout.locked(), disk_errors(shelf.root):
        for copy in copies:
            data = staged(copy.digest).read_bytes()
            if hash_of(data) != copy.digest:
                raise CorruptBlob(f"the given manifest of {copy.reference} has the hash {hash_of(data)}")
            entry = copied(IndexEntry, copy, num_bytes=len(data))
            parse_manifest(data, entry)
            _refuse_other(shelf, entry)
            for blob in copy.blobs:
                _replace_damaged(shelf, blob)
                shelf.layout.link_file(staged(blob.digest), blob.digest)
            others = [one for one in shelf.layout.read_index() if not _same_place(one, entry)]
            shelf.layout.write_index((*others, entry))
    for copy in copies:
        manifests = [staged(one.digest).read_bytes() for one in copy.attached]
        adopt(shelf.layout, copy.digest, [(data, lambda blob: staged(blob.digest)) for data in manifests])


def _replace_damaged(shelf: Shelf, blob: BlobCopy) -> None:
    """Make room for a good copy of a blob: the existing file may have the right size but wrong bytes."""
    if shelf.layout.has_blob(blob.digest, blob.num_bytes):
        try:
            shelf.layout.check_blob(blob.digest, blob.num_bytes, full=True, what=blob.digest)
        except CorruptBlob:
            shelf.layout.remove_blob(blob.digest)


def _same_place(one: IndexEntry, entry: IndexEntry) -> bool:
    return one.digest == entry.digest and (one.name, one.variant) == (entry.name, entry.variant)


def _refuse_other(shelf: Shelf, entry: IndexEntry) -> None:
    """Refuse to give a name to a model while another one has it."""
    for one in shelf.layout.read_index():
        taken = entry.tagged and one.tagged and (one.name, one.variant) == (entry.name, entry.variant)
        if taken and one.digest != entry.digest:
            raise Conflict(
                f"{entry.name} is a different model in the store ({one.digest}) and in the backup ({entry.digest})",
                hint=f"free the name first: ashore model remove {entry.name}",
            )
