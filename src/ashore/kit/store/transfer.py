"""Models on the move: to a registry or bucket, into a tar, and out of one."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from ashore.core.errors import CorruptBlob, InvalidRequest
from ashore.core.ids import Digest
from ashore.kit.sealing import DataKeys, read_envelope
from ashore.kit.store.archive import ENVELOPES, unpack_archive, write_archive
from ashore.kit.store.attachments import adopt, attachments
from ashore.kit.store.envelopes import push_envelope
from ashore.kit.store.manifest import descriptors, parse_manifest
from ashore.kit.store.model import Attachment, StoredModel
from ashore.kit.store.ports import ManifestRemote, SourceOpener
from ashore.kit.store.progress import Progress
from ashore.kit.store.shelf import Shelf


def push(shelf: Shelf, keys: DataKeys, sources: SourceOpener, ref: str, target: str, progress: Progress) -> Digest:
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
    if model.sealed:
        push_envelope(sources, target, keys, model.sealed.key_id)
    remote.write_manifest(data, name=model.reference)
    for attachment in reversed(attachments(shelf.layout, model.digest)):
        _push_attachment(shelf, attachment, remote, progress)
    return model.digest


def _push_attachment(shelf: Shelf, attachment: Attachment, remote: ManifestRemote, progress: Progress) -> None:
    path = shelf.layout.blob_path(attachment.digest)
    data = path.read_bytes()
    for blob in descriptors(data):
        what = f"{blob.path} of the {attachment.kind} of {attachment.subject}"
        shelf.layout.check_blob(blob.digest, blob.num_bytes, full=False, what=what)
        if not remote.has_blob(blob):
            remote.send_blob(blob, shelf.layout.blob_path(blob.digest), progress)
    remote.write_referrer(data, subject=attachment.subject)


def export(shelf: Shelf, keys: DataKeys, ref: str, tar_path: Path, progress: Progress) -> Path:
    """See `ModelStore.export`."""
    model = shelf.resolve(ref)
    entry = next(e for e in shelf.layout.read_index() if e.digest == model.digest and e.name == model.name)
    envelopes = {model.sealed.key_id: keys.read(model.sealed.key_id)} if model.sealed else {}
    return write_archive(shelf.layout, dataclasses.replace(entry, tagged=True), tar_path, progress, envelopes=envelopes)


def import_tar(shelf: Shelf, keys: DataKeys, tar_path: Path, progress: Progress) -> tuple[StoredModel, ...]:
    """See `ModelStore.import_tar`."""
    with tempfile.TemporaryDirectory(dir=shelf.layout.staging, prefix="import-") as scratch:
        incoming = unpack_archive(tar_path, Path(scratch), progress)
        entries = incoming.read_index()
        models = []
        for entry in entries:
            data = incoming.blob_path(entry.digest).read_bytes()
            model = parse_manifest(data, entry)
            if model.sealed:
                _take_envelope(keys, incoming.root / ENVELOPES, model, tar_path)
            with shelf.layout.locked():
                shelf.check_name(entry.name, entry.variant, data)
                for blob in descriptors(data):
                    shelf.layout.link_file(incoming.blob_path(blob.digest), blob.digest)
                models.append(shelf.register(data, entry.name, entry.variant))
            about = [incoming.blob_path(one.digest).read_bytes() for one in incoming.read_attached()]
            adopt(shelf.layout, entry.digest, [(data, lambda blob: incoming.blob_path(blob.digest)) for data in about])
    return tuple(models)


def _take_envelope(keys: DataKeys, folder: Path, model: StoredModel, tar_path: Path) -> None:
    """Store the envelope of a sealed model, unless there is one: that may have been rewrapped since."""
    assert model.sealed is not None
    key_id = model.sealed.key_id
    if keys.path(key_id).exists():
        return
    path = folder / keys.path(key_id).name
    if not path.is_file():
        raise CorruptBlob(
            f"{tar_path.name} has the sealed model {model.reference} but not the envelope of its key {key_id}",
            hint="export it again",
        )
    data = path.read_bytes()
    read_envelope(data, key_id=key_id)
    keys.write(key_id, data)
