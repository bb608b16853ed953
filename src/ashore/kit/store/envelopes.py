"""Transfers envelopes: a sealed model in a registry or bucket has the envelope of its data key beside it.

The envelope is an OCI artifact of its own, under the tag `ashore-key-<id>` of the repository, or under `envelopes/<id>`
of the bucket's path: rewrapping it must not change the model. It is useless without the key that wraps it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Final

from ashore.core.errors import CorruptBlob, SealingKeyMissing, UnknownModel
from ashore.core.ids import Digest
from ashore.kit.sealing import MAX_ENVELOPE_BYTES, DataKeys, read_envelope
from ashore.kit.store.layout import MANIFEST_MEDIA_TYPE
from ashore.kit.store.manifest import FILEPATH, Descriptor, descriptors
from ashore.kit.store.ports import ManifestRemote, SourceOpener
from ashore.kit.store.progress import silent

ENVELOPE_TYPE: Final = "application/vnd.ashore.envelope.v1+json"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
EMPTY: Final = b"{}"


def envelope_place(text: str, key_id: str) -> str:
    """Return the source under which the envelope of a model at `oci://…` or `s3://…` lies."""
    scheme, _, rest = text.partition("://")
    if scheme == "s3":
        return f"{text.rstrip('/')}/envelopes/{key_id}"
    host, _, repository = rest.partition("@")[0].partition("/")
    return f"{scheme}://{host}/{repository.partition(':')[0]}:ashore-key-{key_id}"


def push_envelope(sources: SourceOpener, target: str, keys: DataKeys, key_id: str) -> None:
    """Upload the current envelope of a data key; replaces an older one."""
    remote = _remote(sources, target, key_id)
    data = keys.read(key_id)
    config, layer = _descriptor(EMPTY, "config"), _descriptor(data, "envelope.json")
    with tempfile.TemporaryDirectory(prefix="ashore-envelope-") as folder:
        for blob, content in ((config, EMPTY), (layer, data)):
            if not remote.has_blob(blob):
                path = Path(folder) / blob.path
                path.write_bytes(content)
                remote.send_blob(blob, path, silent)
    remote.write_manifest(envelope_manifest(data), name="envelope")


def pull_envelope(sources: SourceOpener, source: str, keys: DataKeys, key_id: str, staging: Path) -> None:
    """Download the envelope of a data key, unless there is one: that may have been rewrapped since.

    Raises:
        SealingKeyMissing: there is none beside the model.
        CorruptBlob: it is not an envelope.
    """
    if keys.path(key_id).exists():
        return
    remote = _remote(sources, source, key_id)
    try:
        layer = descriptors(remote.read_manifest())[-1]
    except UnknownModel as error:
        raise SealingKeyMissing(
            f"the model at {source} is sealed, but the envelope of its data key {key_id} is missing there",
            hint="push it again from a store that has the key, or transfer the model as a tar: ashore model export",
        ) from error
    if layer.num_bytes > MAX_ENVELOPE_BYTES:
        raise CorruptBlob(f"the envelope of {key_id} at {source} has {layer.num_bytes} bytes", hint="push it again")
    target = staging / f"envelope-{key_id}"
    remote.fetch_blob(layer, target, silent)
    data = target.read_bytes()
    read_envelope(data, key_id=key_id)
    keys.write(key_id, data)


def _remote(sources: SourceOpener, text: str, key_id: str) -> ManifestRemote:
    remote = sources(envelope_place(text, key_id), sha256="")
    assert isinstance(remote, ManifestRemote)
    return remote


def _descriptor(data: bytes, path: str) -> Descriptor:
    digest = Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
    return Descriptor(digest=digest, num_bytes=len(data), path=path)


def envelope_manifest(data: bytes) -> bytes:
    """Return the manifest of an envelope: its blobs are `EMPTY` and the envelope itself."""
    config, layer = _descriptor(EMPTY, "config"), _descriptor(data, "envelope.json")
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": ENVELOPE_TYPE,
        "config": {"mediaType": EMPTY_TYPE, "digest": config.digest, "size": config.num_bytes},
        "layers": [
            {
                "mediaType": ENVELOPE_TYPE,
                "digest": layer.digest,
                "size": layer.num_bytes,
                "annotations": {FILEPATH: layer.path},
            }
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
