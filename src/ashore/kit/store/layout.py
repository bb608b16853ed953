"""The OCI image layout on disk: `oci-layout`, `index.json`, `blobs/sha256/…`, and beside them what only ashore reads.

    oci-layout  index.json  blobs/sha256/<hex>       the layout, readable by any OCI tool
    facts/<hex>.json                                 fingerprints taken at ingest (rebuilt by `verify`)
    staging/<key>/                                   unfinished pulls, one folder a source, kept for resuming
    lock                                             flock: held while the index changes

Every write is: temporary file, fsync, rename (or hard link), fsync of the folder. Blobs are 0444.
Source: OCI image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ashore.core.errors import CorruptBlob, EnvironmentFault
from ashore.core.foreign import foreign_errors
from ashore.core.ids import Digest
from ashore.kit.folders import make_folder
from ashore.kit.recordfile import read_record
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.fingerprint import Fingerprint, sha256_file, take_fingerprint
from ashore.kit.store.refs import checked_digest
from ashore.kit.wholefile import write_whole

_MAX_PATH_BYTES: Final = 1024
_MAX_PART_BYTES: Final = 200
"""File systems take 255; what lies beside a file while it is written has a longer name."""
_HINT: Final = "do not use it: it is malicious or damaged"
INDEX_MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
_ATTACHED_TO = "ashore.attached.to"


def check_path(path: str) -> None:
    """Raise `CorruptBlob` unless `path` is relative, plain, not too long, and stays inside its folder."""
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise CorruptBlob(f"the path {_shown(path)} points outside the model's directory", hint=_HINT)
    if not path.isprintable():
        raise CorruptBlob(f"the path {_shown(path)} has characters that are not allowed in a file name", hint=_HINT)
    if len(path.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        raise CorruptBlob(f"the path {_shown(path)} is too long for a file system", hint=_HINT)


def check_paths(paths: Iterable[str]) -> None:
    """Check every path, and that no two collide, as files or as file and folder, on any disk."""
    seen: dict[str, str] = {}
    for path in paths:
        check_path(path)
        other = seen.setdefault(path.casefold(), path)
        if other is not path:
            raise CorruptBlob(
                f"the paths {_shown(other)} and {_shown(path)} are the same file on some file systems", hint=_HINT
            )
    for folded, path in seen.items():
        above = folded
        while above := above.rpartition("/")[0]:
            if above in seen:
                raise CorruptBlob(f"the path {_shown(path)} conflicts with the file {_shown(seen[above])}", hint=_HINT)


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 80 else path[:80] + "…")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One manifest of `index.json`."""

    digest: Digest
    num_bytes: int
    name: str
    variant: str
    tagged: bool
    """False: no reference but the digest leads here, and `gc` may take it."""
    created_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedEntry:
    """One manifest of `index.json` that is about another: see `kit/store/attachments.py`."""

    digest: Digest
    num_bytes: int
    kind: str
    artifact_type: str
    subject: Digest
    created_s: int


class Layout:
    """The layout in one folder. Methods that change the index require `locked()`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs" / "sha256"
        self.facts = root / "facts"
        self.staging = root / "staging"

    def create(self) -> None:
        """Create the folders and the two fixed files if missing. May be called twice."""
        with disk_errors(self.root):
            for folder in (self.blobs, self.facts, self.staging):
                make_folder(folder)
            if not (self.root / "oci-layout").exists():
                write_atomic(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            with self.locked():
                if not (self.root / "index.json").exists():
                    self.write_index(())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store's lock, waiting for it; the kernel releases it when the process ends."""
        with (self.root / "lock").open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def blob_path(self, digest: str) -> Path:
        return self.blobs / digest.removeprefix("sha256:")

    def has_blob(self, digest: str, num_bytes: int) -> bool:
        """Return whether a blob of that digest and size is here."""
        path = self.blob_path(digest)
        return path.exists() and path.stat().st_size == num_bytes

    def read_index(self) -> tuple[IndexEntry, ...]:
        """Return the manifests of models in the index, oldest first."""
        with self._index_items() as items:
            return tuple(_entry_from(item) for item in items if not _is_attached(item))

    def read_attached(self) -> tuple[AttachedEntry, ...]:
        """Return the manifests in the index that are attachments."""
        with self._index_items() as items:
            return tuple(_attached_from(item) for item in items if _is_attached(item))

    @contextmanager
    def _index_items(self) -> Iterator[list[dict[str, Any]]]:
        path = self.root / "index.json"
        hint = "restore it from a backup, or move the store aside and pull again"
        with foreign_errors(f"{path} is not an OCI index", hint=hint):
            yield json.loads(path.read_bytes())["manifests"] if path.exists() else []

    def write_index(self, entries: tuple[IndexEntry, ...], attached: tuple[AttachedEntry, ...] | None = None) -> None:
        """Replace the index. Attachments of removed manifests are removed too. The lock must be held.

        Args:
            entries: Models.
            attached: What is about them; default: what was there.
        """
        living = {entry.digest for entry in entries}
        kept = tuple(one for one in (self.read_attached() if attached is None else attached) if one.subject in living)
        write_atomic(self.root / "index.json", index_bytes(entries, kept))

    def add_bytes(self, data: bytes) -> Digest:
        """Store small data as a blob; return its digest. Idempotent."""
        import hashlib

        digest = Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
        target = self.blob_path(digest)
        if not target.exists() or target.read_bytes() != data:
            write_atomic(target, data, mode=0o444)
            self.record_facts(digest)
        return digest

    def link_file(self, path: Path, digest: Digest) -> None:
        """Store a staged file, already hashed to `digest`, as a blob: by a hard link, or a copy if links fail."""
        target = self.blob_path(digest)
        if self.has_blob(digest, path.stat().st_size):
            return
        target.unlink(missing_ok=True)
        fsync_file(path)
        path.chmod(0o444)
        try:
            os.link(path, target)
        except OSError:
            copy_atomic(path, target)
        fsync_file(self.blobs)
        self.record_facts(digest)

    def record_facts(self, digest: Digest) -> None:
        """Compute and store the fingerprint of a blob."""
        facts = dataclasses.asdict(take_fingerprint(self.blob_path(digest)))
        write_atomic(self.facts / f"{digest.removeprefix('sha256:')}.json", json.dumps(facts).encode())

    def read_facts(self, digest: Digest) -> Fingerprint | None:
        """Return the fingerprint stored at ingest, or None if missing or unreadable."""
        return read_record(self.facts / f"{digest.removeprefix('sha256:')}.json", Fingerprint)

    def check_blob(self, digest: Digest, num_bytes: int, *, full: bool, what: str) -> None:
        """Check that the blob is unchanged since ingest.

        Sampled: size, modification time, inode and sampled blocks. If time or inode changed (a restored copy), and with
        `full`, everything is hashed; a good blob then gets new facts.

        Raises:
            CorruptBlob: it is gone, shorter, longer or altered; names the file and the model.
        """
        path = self.blob_path(digest)
        hint = "pull the model again, or restore the blob from a backup; `ashore model verify` lists every bad file"
        if not path.exists():
            raise CorruptBlob(f"{what}: blob {path} is missing", hint=hint)
        size = path.stat().st_size
        if size != num_bytes:
            raise CorruptBlob(f"{what}: blob {path} has {size} bytes, expected {num_bytes}", hint=hint)
        kept = self.read_facts(digest)
        if not full and kept is not None and kept == take_fingerprint(path):
            return
        seen = sha256_file(path)
        if seen != digest:
            raise CorruptBlob(f"{what}: blob {path} was altered; its hash is {seen}, expected {digest}", hint=hint)
        with contextlib.suppress(PermissionError):
            self.record_facts(digest)

    def remove_blob(self, digest: str) -> int:
        """Delete a blob and its facts; return the bytes freed, 0 if it was gone already."""
        path = self.blob_path(digest)
        freed = path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
        (self.facts / f"{path.name}.json").unlink(missing_ok=True)
        return freed


def _entry_from(item: dict[str, Any]) -> IndexEntry:
    notes = item.get("annotations", {})
    reference = str(notes.get("org.opencontainers.image.ref.name", ""))
    name, _, variant = reference.partition("@")
    return IndexEntry(
        digest=checked_digest(item["digest"]),
        num_bytes=int(item["size"]),
        name=name or str(notes.get("ashore.name", "")),
        variant=variant or str(notes.get("ashore.variant", "")),
        tagged=bool(reference),
        created_s=int(notes.get("ashore.created", 0)),
    )


def _is_attached(item: dict[str, Any]) -> bool:
    return _ATTACHED_TO in item.get("annotations", {})


def _attached_from(item: dict[str, Any]) -> AttachedEntry:
    notes = item["annotations"]
    return AttachedEntry(
        digest=checked_digest(item["digest"]),
        num_bytes=int(item["size"]),
        kind=str(notes["ashore.attached.kind"]),
        artifact_type=str(item["artifactType"]),
        subject=checked_digest(notes[_ATTACHED_TO]),
        created_s=int(notes["ashore.created"]),
    )


def _attached_to(entry: AttachedEntry) -> dict[str, Any]:
    return {
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": entry.artifact_type,
        "digest": entry.digest,
        "size": entry.num_bytes,
        "annotations": {
            _ATTACHED_TO: entry.subject,
            "ashore.attached.kind": entry.kind,
            "ashore.created": str(entry.created_s),
        },
    }


def _entry_to(entry: IndexEntry) -> dict[str, Any]:
    notes = {"ashore.name": entry.name, "ashore.variant": entry.variant, "ashore.created": str(entry.created_s)}
    if entry.tagged:
        notes["org.opencontainers.image.ref.name"] = f"{entry.name}@{entry.variant}" if entry.variant else entry.name
    return {
        "mediaType": MANIFEST_MEDIA_TYPE,
        "digest": entry.digest,
        "size": entry.num_bytes,
        "annotations": notes,
    }


def index_bytes(entries: tuple[IndexEntry, ...], attached: tuple[AttachedEntry, ...] = ()) -> bytes:
    """Return `index.json` with these entries."""
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX_MEDIA_TYPE,
        "manifests": [*map(_entry_to, entries), *map(_attached_to, attached)],
    }
    return json.dumps(document, indent=1, sort_keys=True).encode()


def write_atomic(target: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `target` by `data` atomically, also in a crash."""
    with disk_errors(target):
        write_whole(target, data, mode=mode)


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file to `target` (0444) through a temporary file."""
    with disk_errors(target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".tmp-")
        os.close(handle)
        try:
            shutil.copyfile(source, name)
            fsync_file(Path(name))
            os.chmod(name, 0o444)
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def fsync_file(path: Path) -> None:
    """Force a file's data, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise EnvironmentFault(f"cannot flush {path} to the disk: {error.strerror}") from error
    finally:
        os.close(descriptor)
