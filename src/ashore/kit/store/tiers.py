"""Weights in a bucket: blobs move there and back, names, manifests and texts stay.

    cold/<hex>.json     a blob that lies whole in a bucket, and where; written once it was read back from there

A blob is *away* if it has such a record and no file. A file is deleted only after the record of its copy is on disk, so
that every blob is complete in at least one place. Records survive a fetch: moving the model again only checks the copy.
ashore never deletes from the bucket, because other homes may share it; expiring objects there loses weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ashore.core.errors import Conflict, CorruptBlob, WeightsAway
from ashore.core.ids import Digest
from ashore.kit.folders import make_folder
from ashore.kit.recordfile import read_record
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.layout import Layout, fsync_file, write_atomic
from ashore.kit.store.manifest import Descriptor, descriptors
from ashore.kit.store.model import WEIGHT_SUFFIXES, StoredFile, StoredModel
from ashore.kit.store.progress import Progress
from ashore.kit.store.sources.s3 import S3LayoutRemote
from ashore.kit.store.staging import staging_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdCopy:
    """A blob in a bucket."""

    place: str
    """`s3://BUCKET/PATH`; the blob is `blobs/sha256/<hex>` below it."""
    num_bytes: int


class Tiers:
    """Which blobs of a layout are in a bucket."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._records = layout.root / "cold"

    def copy_of(self, digest: str) -> ColdCopy | None:
        """Return the location of a blob in a bucket; None if it has none."""
        return read_record(self._path(digest), ColdCopy)

    def away(self, model: StoredModel) -> tuple[StoredFile, ...]:
        """Return the files of a model that are only in a bucket."""
        return tuple(
            file
            for file in model.files
            if not self._layout.has_blob(file.digest, file.num_bytes) and self.copy_of(file.digest) is not None
        )

    def refuse_away(self, model: StoredModel) -> None:
        """Check that no part of a model is only in a bucket.

        Raises:
            WeightsAway: some of it is in a bucket.
        """
        away = self.away(model)
        if away:
            copy = self.copy_of(away[0].digest)
            where = copy.place if copy else "a bucket"
            raise WeightsAway(
                f"the weights of {model.reference} are in {where}, and not on this disk",
                hint=f"bring them back: `ashore model fetch {model.reference}`",
            )

    def send(self, model: StoredModel, place: str, progress: Progress) -> int:
        """Move the weights of a model to a bucket; return the bytes freed here. May be called twice.

        Blobs that other models need also stay here. Each blob is read back before it counts as sent.

        Raises:
            CorruptBlob: a file is damaged here, or came back from the bucket as something else.
            Conflict: the model has no weights in files.
            SourceUnreachable, RemoteRefused: the bucket is unavailable; everything stays.
        """
        remote = S3LayoutRemote(place)
        weights = weights_of(model)
        if not weights:
            raise Conflict(f"{model.reference} has no weights that could go to a bucket")
        for file in weights:
            blob = Descriptor(path=file.path, digest=file.digest, num_bytes=file.num_bytes)
            if not self._layout.has_blob(file.digest, file.num_bytes):
                self.refuse_lost(file, model)
                continue
            known = self.copy_of(file.digest)
            if known is not None and known.place == place and remote.has_blob(blob):
                continue
            what = f"{file.path} of {model.reference}"
            self._layout.check_blob(file.digest, file.num_bytes, full=False, what=what)
            remote.send_blob(blob, self._layout.blob_path(file.digest), progress)
            seen = remote.hash_of(blob, progress)
            if seen != file.digest:
                raise CorruptBlob(
                    f"{what} came back from {place} with the hash {seen}; it stays on this disk",
                    hint="try again; if this repeats, the bucket or a proxy alters objects",
                )
            self._record(file.digest, ColdCopy(place=place, num_bytes=file.num_bytes))
        with self._layout.locked():
            kept = self._needed_by_others(model)
            freed = sum(self._layout.remove_blob(f.digest) for f in weights if f.digest not in kept)
            fsync_file(self._layout.blobs)
        return freed

    def fetch(self, model: StoredModel, progress: Progress) -> int:
        """Fetch the weights of a model; return the bytes fetched. May be called twice; a killed call resumes.

        Raises:
            CorruptBlob: the fetched bytes differ from those sent.
            SourceUnreachable, RemoteRefused, UnknownModel: the bucket does not have it. DiskFull.
        """
        came = 0
        with staging_folder(self._layout.staging, f"cold:{model.digest}") as folder:
            for file in self.away(model):
                copy = self.copy_of(file.digest)
                assert copy is not None
                target = folder / file.digest.removeprefix("sha256:")
                blob = Descriptor(path=file.path, digest=file.digest, num_bytes=file.num_bytes)
                S3LayoutRemote(copy.place).fetch_blob(blob, target, progress)
                with self._layout.locked(), disk_errors(self._layout.root):
                    self._layout.link_file(target, file.digest)
                came += file.num_bytes
        return came

    def forget(self, needed: Iterable[str]) -> None:
        """Delete the records of unneeded blobs, by hexadecimal name. The lock must be held."""
        names = set(needed)
        for path in self._records.glob("*.json") if self._records.is_dir() else ():
            if path.stem not in names:
                path.unlink(missing_ok=True)

    def refuse_lost(self, file: StoredFile, model: StoredModel) -> None:
        """Check that a missing file is in a bucket.

        Raises:
            CorruptBlob: it is not.
        """
        if self.copy_of(file.digest) is None:
            raise CorruptBlob(f"{file.path} of {model.reference} is missing", hint="pull the model again")

    def _needed_by_others(self, model: StoredModel) -> set[Digest]:
        needed: set[Digest] = set()
        for entry in self._layout.read_index():
            if entry.tagged and entry.digest != model.digest:
                needed |= {blob.digest for blob in descriptors(self._layout.blob_path(entry.digest).read_bytes())}
        return needed

    def _path(self, digest: str) -> Path:
        return self._records / f"{digest.removeprefix('sha256:')}.json"

    def _record(self, digest: str, copy: ColdCopy) -> None:
        with disk_errors(self._records):
            make_folder(self._records)
        write_atomic(self._path(digest), json.dumps(asdict(copy)).encode())


def weights_of(model: StoredModel) -> tuple[StoredFile, ...]:
    """Return the files of a model that may go to a bucket: its weights, sealed or not."""
    return tuple(file for file in model.files if file.path.endswith(WEIGHT_SUFFIXES))
