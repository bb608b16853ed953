"""Models on the move: to a registry or bucket, into a tar, and out of one."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from ashore.core import Digest
from ashore.errors import InvalidRequest
from ashore.store.archive import unpack_archive, write_archive
from ashore.store.manifest import descriptors, parse_manifest
from ashore.store.model import StoredModel
from ashore.store.ports import ManifestRemote, SourceOpener
from ashore.store.progress import Progress
from ashore.store.refs import parse_reference
from ashore.store.shelf import Shelf


def push(shelf: Shelf, sources: SourceOpener, ref: str, target: str, progress: Progress) -> Digest:
    """See `ModelStore.push`."""
    model = shelf.resolve(ref)
    remote = sources(target, sha256="")
    if not isinstance(remote, ManifestRemote):
        raise InvalidRequest(f"cannot push to {target!r}", hint="expected oci://HOST/NAME[:TAG] or s3://BUCKET/PATH")
    data = shelf.layout.blob_path(model.digest).read_bytes()
    for blob in descriptors(data):
        path = shelf.layout.blob_path(blob.digest)
        shelf.layout.check_blob(blob.digest, blob.num_bytes, full=False, what=f"{blob.path} of {model.reference}")
        if not remote.has_blob(blob):
            remote.send_blob(blob, path, progress)
    remote.write_manifest(data, name=model.reference)
    return model.digest


def export(shelf: Shelf, ref: str, tar_path: Path, progress: Progress) -> Path:
    """See `ModelStore.export`."""
    model = shelf.resolve(ref)
    entry = next(e for e in shelf.layout.read_index() if e.digest == model.digest and e.name == model.name)
    return write_archive(shelf.layout, dataclasses.replace(entry, tagged=True), tar_path, progress)


def import_tar(shelf: Shelf, tar_path: Path, progress: Progress) -> tuple[StoredModel, ...]:
    """See `ModelStore.import_tar`."""
    with tempfile.TemporaryDirectory(dir=shelf.layout.staging, prefix="import-") as scratch:
        incoming = unpack_archive(tar_path, Path(scratch), progress)
        entries = incoming.read_index()
        models = []
        for entry in entries:
            parse_reference(entry.name)
            data = incoming.blob_path(entry.digest).read_bytes()
            parse_manifest(data, entry)
            with shelf.layout.locked():
                shelf.check_name(entry.name, entry.variant, data)
                for blob in descriptors(data):
                    shelf.layout.link_file(incoming.blob_path(blob.digest), blob.digest)
                models.append(shelf.register(data, entry.name, entry.variant))
    return tuple(models)
