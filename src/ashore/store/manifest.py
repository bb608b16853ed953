"""A stored model as an OCI manifest with the media types of the CNCF ModelPack specification.

One raw layer a file; what ashore knows beside the bytes are annotations `ashore.*` of the manifest. Name and time are
not in the manifest but in the index: the same bytes, made in the same way, have the same digest on every machine.
Source: CNCF model-spec, docs/spec.md and docs/config.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, cast, get_args

from ashore.core import Digest, ModelFormat, ModelShape
from ashore.errors import CorruptBlob, UnsupportedModel
from ashore.store.layout import MANIFEST_MEDIA_TYPE, IndexEntry
from ashore.store.model import WEIGHT_SUFFIXES, SealMark, StoredFile, StoredModel

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_MEDIA_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG = "application/vnd.cncf.model.weight.config.v1.raw"
DOC = "application/vnd.cncf.model.doc.v1.raw"
SEALED = "application/vnd.ashore.model.sealed.v1"
"""A file of any of these kinds, encrypted."""
FILEPATH = "org.cncf.model.filepath"

_DOC_PREFIXES = ("license", "licence", "readme", "notice", "usage_policy")


def media_type_of(path: str) -> str:
    """Return the ModelPack media type of a file by its name."""
    name = path.rsplit("/", 1)[-1].lower()
    if name.endswith(WEIGHT_SUFFIXES):
        return WEIGHT
    if name.startswith(_DOC_PREFIXES):
        return DOC
    return WEIGHT_CONFIG


def config_bytes(model: StoredModel) -> bytes:
    """Return the ModelPack config blob."""
    document = {
        "descriptor": {"family": model.shape.architecture, "licenses": [model.licence]},
        "modelfs": {"type": "layers", "diffIds": [f.digest for f in model.files]},
        "config": {
            "architecture": "transformer",
            "format": model.format,
            "paramSize": str(model.shape.num_parameters),
            "precision": model.recipe.get("precision", ""),
        },
    }
    return _canonical(document)


def manifest_bytes(model: StoredModel, config_digest: Digest, config_size: int) -> bytes:
    """Return the manifest. Equal models give equal bytes; `name`, `digest` and `created_s` do not enter."""
    notes = {
        "ashore.format": model.format,
        "ashore.weights": model.weights,
        "ashore.shape": json.dumps(dataclasses.asdict(model.shape), sort_keys=True),
        "ashore.source": model.source,
        "ashore.recipe": json.dumps(model.recipe, sort_keys=True),
        "org.opencontainers.image.licenses": model.licence,
    }
    if model.variant:
        notes["ashore.variant"] = model.variant
    if model.parent:
        notes["ashore.parent"] = model.parent
    if model.sealed:
        notes["ashore.sealed.key"] = model.sealed.key_id
        notes["ashore.sealed.sheet"] = model.sealed.sheet
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": CONFIG_MEDIA_TYPE, "digest": config_digest, "size": config_size},
        "layers": [
            {
                "mediaType": f.media_type,
                "digest": f.digest,
                "size": f.num_bytes,
                "annotations": {FILEPATH: f.path},
            }
            for f in model.files
        ],
        "annotations": notes,
    }
    return _canonical(document)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A blob that a manifest points to."""

    digest: Digest
    num_bytes: int
    path: str
    """File path of a layer; `config` for the config blob."""


def descriptors(data: bytes) -> tuple[Descriptor, ...]:
    """Return config and layers of a manifest, config first.

    Raises:
        CorruptBlob: it is not a manifest, or points to a path outside the model.
    """
    try:
        document = json.loads(data)
        config = document["config"]
        found = [Descriptor(digest=Digest(config["digest"]), num_bytes=int(config["size"]), path="config")]
        for layer in document["layers"]:
            path = str(layer["annotations"][FILEPATH])
            check_path(path)
            found.append(Descriptor(digest=Digest(layer["digest"]), num_bytes=int(layer["size"]), path=path))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptBlob(f"not a ModelPack manifest: {error!r}", hint="pull or import the model again") from error
    return tuple(found)


def parse_manifest(data: bytes, entry: IndexEntry) -> StoredModel:
    """Return the model that a manifest, found under an index entry, describes.

    Raises:
        UnsupportedModel: a manifest that another tool made without our annotations.
        CorruptBlob: not a ModelPack manifest at all.
    """
    blobs = descriptors(data)
    document: dict[str, Any] = json.loads(data)
    notes: dict[str, str] = document.get("annotations", {})
    try:
        fmt = notes["ashore.format"]
        shape = ModelShape(**json.loads(notes["ashore.shape"]))
        if fmt not in get_args(ModelFormat):
            raise UnsupportedModel(f"format {fmt!r} of {entry.digest} is not one of {get_args(ModelFormat)}")
        media = [str(layer["mediaType"]) for layer in document["layers"]]
        return StoredModel(
            name=entry.name,
            variant=notes.get("ashore.variant", ""),
            digest=entry.digest,
            format=cast("ModelFormat", fmt),
            weights=notes["ashore.weights"],
            files=tuple(
                StoredFile(path=b.path, digest=b.digest, num_bytes=b.num_bytes, media_type=m)
                for b, m in zip(blobs[1:], media, strict=True)
            ),
            shape=shape,
            licence=notes.get("org.opencontainers.image.licenses", "unknown"),
            source=notes.get("ashore.source", ""),
            created_s=entry.created_s,
            parent=Digest(notes["ashore.parent"]) if "ashore.parent" in notes else None,
            recipe=dict(json.loads(notes.get("ashore.recipe", "{}"))),
            sealed=SealMark(key_id=notes["ashore.sealed.key"], sheet=notes["ashore.sealed.sheet"])
            if "ashore.sealed.key" in notes
            else None,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise UnsupportedModel(
            f"manifest {entry.digest} lacks ashore's annotations ({error!r})",
            hint="it was made by another tool; pull the model from its original source instead",
        ) from error


def hash_of(data: bytes) -> Digest:
    """Return `sha256:…` of bytes."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def check_path(path: str) -> None:
    """Raise `CorruptBlob` unless `path` is relative, plain, and stays inside its folder."""
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\0" in path or any(p in ("", ".", "..") for p in parts):
        raise CorruptBlob(
            f"the path {path!r} leaves the model's folder", hint="refuse this archive; it is hostile or broken"
        )


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
