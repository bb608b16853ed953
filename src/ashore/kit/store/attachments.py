"""Attachments to stored models, as OCI referrers, so that the model and its digest do not change.

An attachment is a manifest of its own whose `subject` is the model's manifest; its kind is part of its `artifactType`.
It lives as long as its subject. Every reader of the store may read it, also for sealed models: it contains figures and
names, never text of a person or model (ADR 16). Source: OCI image-spec v1.1, manifest.md (`subject`, `artifactType`),
and distribution-spec v1.1, referrers.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from ashore.core.errors import Conflict, CorruptBlob, InvalidRequest
from ashore.core.foreign import foreign_errors
from ashore.core.ids import Digest
from ashore.core.timespan import written_moment
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.layout import MANIFEST_MEDIA_TYPE, AttachedEntry, IndexEntry, Layout, check_path
from ashore.kit.store.manifest import FILEPATH, Descriptor, descriptors, hash_of
from ashore.kit.store.model import Attachment, StoredFile, StoredModel
from ashore.kit.store.refs import checked_digest

ATTACHED_PREFIX: Final = "application/vnd.ashore.attached."
KEPT_OF_A_KIND: Final = 10
"""Attachments of one kind that a model keeps; older ones go when another comes."""
MAX_ATTACHED_BYTES: Final = 32 << 20
MAX_REFERRERS: Final = 64
"""Most that are taken over from a remote or an archive for one model."""

_EMPTY: Final = b"{}"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")
_CREATED: Final = "org.opencontainers.image.created"
_MEDIA_TYPES: Final = {
    "html": "text/html",
    "json": "application/json",
    "md": "text/markdown",
    "png": "image/png",
    "toml": "application/toml",
}


def attach(layout: Layout, model: StoredModel, kind: str, files: Mapping[str, bytes], *, now_s: float) -> Attachment:
    """See `ModelStore.attach`."""
    _check(kind, files)
    with layout.locked(), disk_errors(layout.root):
        entries = layout.read_index()
        subject = next((e for e in entries if e.digest == model.digest), None)
        if subject is None:
            raise Conflict(f"{model.reference} is no longer in the store", hint="it was removed in the meantime")
        layout.add_bytes(_EMPTY)
        stored = tuple(
            StoredFile(
                path=path,
                digest=layout.add_bytes(files[path]),
                num_bytes=len(files[path]),
                media_type=_MEDIA_TYPES.get(path.rsplit(".", 1)[-1], "application/octet-stream"),
            )
            for path in sorted(files)
        )
        data = attachment_bytes(kind, stored, subject, int(now_s))
        entry = _keep(layout, data)
        _write(layout, entries, (*layout.read_attached(), entry))
    return parse_attachment(data)


def attachments(layout: Layout, subject: Digest, kind: str | None = None) -> tuple[Attachment, ...]:
    """Return the attachments of a manifest, newest first."""
    entries = [e for e in layout.read_attached() if e.subject == subject and kind in (None, e.kind)]
    found = [parse_attachment(_read(layout, e.digest)) for e in reversed(entries)]
    return tuple(sorted(found, key=lambda one: -one.created_s))


def read_file(layout: Layout, attachment: Attachment, path: str) -> bytes:
    """See `ModelStore.read_attachment`."""
    file = next((f for f in attachment.files if f.path == path), None)
    if file is None:
        names = ", ".join(f.path for f in attachment.files)
        raise InvalidRequest(
            f"the {attachment.kind} {attachment.digest[:19]} has no file {path!r}", hint=f"it has {names}"
        )
    return _read(layout, file.digest)


def adopt(layout: Layout, subject: Digest, found: Iterable[tuple[bytes, Callable[[Descriptor], Path]]]) -> int:
    """Import the attachments that came with a model, and return how many; each with a reader of its blobs. Attachments
    of other manifests are left out. The lock must not be held.
    """
    taken = 0
    with layout.locked(), disk_errors(layout.root):
        entries = layout.read_index()
        attached = layout.read_attached()
        if subject not in {e.digest for e in entries}:
            return 0
        for data, blob_path in list(found)[:MAX_REFERRERS]:
            one = parse_attachment(data)
            if one.subject != subject:
                continue
            for blob in descriptors(data):
                layout.link_file(blob_path(blob), blob.digest)
            attached = (*attached, _keep(layout, data))
            taken += 1
        _write(layout, entries, attached)
    return taken


def moved(layout: Layout, renamed: Mapping[Digest, IndexEntry]) -> tuple[AttachedEntry, ...]:
    """Return entries that attach the old manifests' attachments to the new ones: sealing does not change the evaluated
    bytes. The lock must be held.
    """
    found = []
    for entry in layout.read_attached():
        if entry.subject in renamed:
            one = parse_attachment(_read(layout, entry.digest))
            data = attachment_bytes(one.kind, one.files, renamed[entry.subject], one.created_s)
            found.append(_keep(layout, data))
    return tuple(found)


def attachment_bytes(kind: str, files: tuple[StoredFile, ...], subject: IndexEntry, created_s: int) -> bytes:
    """Return the manifest of an attachment."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": f"{ATTACHED_PREFIX}{kind}.v1",
        "config": {"mediaType": _EMPTY_TYPE, "digest": hash_of(_EMPTY), "size": len(_EMPTY)},
        "layers": [
            {"mediaType": f.media_type, "digest": f.digest, "size": f.num_bytes, "annotations": {FILEPATH: f.path}}
            for f in files
        ],
        "subject": {"mediaType": MANIFEST_MEDIA_TYPE, "digest": subject.digest, "size": subject.num_bytes},
        "annotations": {_CREATED: written_moment(created_s)},
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_attachment(data: bytes) -> Attachment:
    """Return the attachment that a manifest describes.

    Raises:
        CorruptBlob: it is not an attachment, or has paths outside its folder.
    """
    blobs = descriptors(data)
    with foreign_errors("not an ashore attachment", hint="attach it again"):
        document = json.loads(data)
        artifact = str(document["artifactType"])
        kind = artifact.removeprefix(ATTACHED_PREFIX).removesuffix(".v1")
        if artifact != f"{ATTACHED_PREFIX}{kind}.v1" or not _KIND.fullmatch(kind):
            raise ValueError(artifact)
        created = datetime.datetime.fromisoformat(document["annotations"][_CREATED])
        return Attachment(
            digest=hash_of(data),
            kind=kind,
            subject=checked_digest(document["subject"]["digest"]),
            created_s=int(created.timestamp()),
            files=tuple(
                StoredFile(path=b.path, digest=b.digest, num_bytes=b.num_bytes, media_type=str(layer["mediaType"]))
                for b, layer in zip(blobs[1:], document["layers"], strict=True)
            ),
        )


def is_attachment(data: bytes) -> bool:
    """Return whether a manifest is our attachment; others' referrers (signatures, bills of materials) are not."""
    try:
        return str(json.loads(data)["artifactType"]).startswith(ATTACHED_PREFIX)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _check(kind: str, files: Mapping[str, bytes]) -> None:
    if not _KIND.fullmatch(kind):
        raise InvalidRequest(f"{kind!r} is not a kind of attachment", hint="use a lower-case word, such as evaluation")
    for path in files:
        check_path(path)
    num_bytes = sum(map(len, files.values()))
    if not files or num_bytes > MAX_ATTACHED_BYTES:
        raise InvalidRequest(
            f"an attachment of {len(files)} files with {num_bytes} bytes; the limit is {MAX_ATTACHED_BYTES}"
        )


def _keep(layout: Layout, data: bytes) -> AttachedEntry:
    one = parse_attachment(data)
    return AttachedEntry(
        digest=layout.add_bytes(data),
        num_bytes=len(data),
        kind=one.kind,
        artifact_type=f"{ATTACHED_PREFIX}{one.kind}.v1",
        subject=one.subject,
        created_s=one.created_s,
    )


def _write(layout: Layout, entries: tuple[IndexEntry, ...], attached: tuple[AttachedEntry, ...]) -> None:
    """Write the index with the newest attachments of each model and kind, each once."""
    once = {e.digest: e for e in attached}
    groups: dict[tuple[Digest, str], list[AttachedEntry]] = {}
    for entry in sorted(once.values(), key=lambda e: e.created_s):
        groups.setdefault((entry.subject, entry.kind), []).append(entry)
    layout.write_index(entries, tuple(e for group in groups.values() for e in group[-KEPT_OF_A_KIND:]))


def _read(layout: Layout, digest: Digest) -> bytes:
    path = layout.blob_path(digest)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptBlob(f"the blob {path} of an attachment is missing", hint="evaluate the model again") from error
    if hash_of(data) != digest:
        raise CorruptBlob(f"the blob {path} of an attachment was altered", hint="evaluate the model again")
    return data
