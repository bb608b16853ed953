"""The view of a store for other machines of a fleet: manifests by name, blobs, attachments, and envelopes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import BinaryIO, Final

from ashore.errors import AshoreError
from ashore.sealing import DataKeys
from ashore.store.envelopes import EMPTY, envelope_manifest
from ashore.store.layout import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, Layout
from ashore.store.manifest import hash_of
from ashore.store.model import StoredModel
from ashore.store.refs import is_digest

_KEY_TAG: Final = "ashore-key-"


class Shelves:
    """The served view of one store."""

    def __init__(self, layout: Layout, resolve: Callable[[str], StoredModel], keys: DataKeys) -> None:
        self._layout = layout
        self._resolve = resolve
        self._keys = keys

    def manifest(self, name: str, tag: str) -> bytes | None:
        """Return a manifest by tag or digest: a variant, `latest` for the usual one, or the envelope of a key."""
        if tag.startswith(_KEY_TAG):
            envelope = self._envelope(tag.removeprefix(_KEY_TAG))
            return None if envelope is None else envelope_manifest(envelope)
        digest = tag
        if not is_digest(tag):
            try:
                digest = self._resolve(name if tag == "latest" else f"{name}@{tag}").digest
            except AshoreError:
                return None
        path = self._layout.blob_path(digest)
        return path.read_bytes() if path.is_file() else None

    def blob(self, digest: str) -> BinaryIO | bytes | None:
        """Return a blob: an open file, or the bytes of one without a file."""
        if not is_digest(digest):
            return None
        path = self._layout.blob_path(digest)
        if path.is_file():
            return path.open("rb")
        made = [EMPTY, *filter(None, (self._envelope(one) for one in self._keys.ids()))]
        return next((data for data in made if hash_of(data) == digest), None)

    def referrers(self, digest: str) -> bytes:
        """Return the index of a model's attachments."""
        listed = [
            {"mediaType": MANIFEST_MEDIA_TYPE, "artifactType": one.artifact_type, "digest": one.digest,
             "size": one.num_bytes}
            for one in self._layout.read_attached() if one.subject == digest
        ]  # fmt: skip
        return json.dumps({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": listed}).encode()

    def _envelope(self, key_id: str) -> bytes | None:
        return self._keys.read(key_id) if key_id in self._keys.ids() else None
