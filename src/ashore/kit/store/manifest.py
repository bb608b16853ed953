"""A stored model as an OCI manifest with the media types of the CNCF ModelPack specification.

One raw layer a file; further facts are annotations `ashore.*` of the manifest. Name and time are
not in the manifest but in the index: the same bytes, made in the same way, have the same digest on every machine.
Source: CNCF model-spec, docs/spec.md and docs/config.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Final, cast, get_args

from ashore.core.errors import CorruptBlob, UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.ids import Digest
from ashore.core.kinds import ModelFormat
from ashore.core.shapes import ModelShape
from ashore.kit.sealing import is_key_id
from ashore.kit.store.conversion.checkedshape import checked_shape
from ashore.kit.store.layout import MANIFEST_MEDIA_TYPE, IndexEntry, check_paths
from ashore.kit.store.model import WEIGHT_SUFFIXES, SealMark, StoredFile, StoredModel
from ashore.kit.store.refs import checked_digest, parse_reference
from ashore.kit.textfile import check_model_text

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_MEDIA_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG = "application/vnd.cncf.model.weight.config.v1.raw"
DOC = "application/vnd.cncf.model.doc.v1.raw"
SEALED = "application/vnd.ashore.model.sealed.v1"
"""A file of any of these kinds, encrypted."""
FILEPATH = "org.cncf.model.filepath"

MAX_FILE_BYTES = 1 << 50
_AGAIN = "pull or import the model again"
_DOC_PREFIXES = ("license", "licence", "readme", "notice", "usage_policy")


def media_type_of(path: str) -> str:
    """Return the ModelPack media type of a file by its name."""
    name = path.rsplit("/", 1)[-1].lower()
    if name.endswith(WEIGHT_SUFFIXES):
        return WEIGHT
    if name.startswith(_DOC_PREFIXES):
        return DOC
    return WEIGHT_CONFIG


_ALWAYS_WRITTEN: Final = frozenset(
    {f.name for f in dataclasses.fields(ModelShape) if f.default is dataclasses.MISSING}
    | {"num_active_parameters", "latent_rank"}
)


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


def _written(shape: ModelShape) -> dict[str, str | int]:
    """Return the fields of a shape that a manifest holds: those of every model, and of the others what is set."""
    return {
        field.name: value
        for field in dataclasses.fields(shape)
        if (value := getattr(shape, field.name)) or field.name in _ALWAYS_WRITTEN
    }


def manifest_bytes(model: StoredModel, config_digest: Digest, config_size: int) -> bytes:
    """Return the manifest. Equal models give equal bytes; `name`, `digest` and `created_s` do not enter."""
    notes = {
        "ashore.format": model.format,
        "ashore.weights": model.weights,
        "ashore.shape": json.dumps(_written(model.shape), sort_keys=True),
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
    with foreign_errors("not a ModelPack manifest", hint=_AGAIN):
        document = json.loads(data)
        layers = [(str(layer["annotations"][FILEPATH]), layer) for layer in document["layers"]]
        check_paths(path for path, _ in layers)
        return tuple(_descriptor(path, item) for path, item in (("config", document["config"]), *layers))


def _descriptor(path: str, item: dict[str, Any]) -> Descriptor:
    return Descriptor(digest=checked_digest(item["digest"]), num_bytes=_checked_size(item["size"]), path=path)


def _checked_size(size: Any) -> int:
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise CorruptBlob(f"{ascii(size)[:90]} is not the size of a file", hint=_AGAIN)
    return size


def parse_manifest(data: bytes, entry: IndexEntry) -> StoredModel:
    """Return the model that a manifest, found under an index entry, describes.

    Raises:
        UnsupportedModel: a manifest of another tool without our annotations, or with a file far too large to be read.
        CorruptBlob: not a ModelPack manifest at all.
    """
    blobs = descriptors(data)
    document: dict[str, Any] = json.loads(data)
    foreign = "it was made by another tool; pull the model from its original source instead"
    with foreign_errors(f"manifest {entry.digest} lacks ashore's annotations", UnsupportedModel, hint=foreign):
        notes: dict[str, str] = document.get("annotations", {})
        fmt = notes["ashore.format"]
        shape = checked_shape(json.loads(notes["ashore.shape"]), what=f"the shape of {entry.digest}")
        if fmt not in get_args(ModelFormat):
            raise UnsupportedModel(f"format {ascii(fmt)[:90]} of {entry.digest} is not one of {get_args(ModelFormat)}")
        media = [str(layer["mediaType"]) for layer in document["layers"]]
        weights = notes["ashore.weights"]
        if weights not in {b.path for b in blobs[1:]}:
            raise CorruptBlob(
                f"manifest {entry.digest} names the weights file {ascii(weights)[:90]}, which is not one of its files",
                hint="do not use it: it is malicious or damaged",
            )
        variant = notes.get("ashore.variant", "")
        if variant:
            parse_reference(f"model@{variant}")
        for blob in blobs[1:]:
            if media_type_of(blob.path) != WEIGHT:
                check_model_text(blob.path, blob.num_bytes)
        recipe = json.loads(notes.get("ashore.recipe", "{}"))
        return StoredModel(
            name=entry.name,
            variant=variant,
            digest=entry.digest,
            format=cast("ModelFormat", fmt),
            weights=weights,
            files=tuple(
                StoredFile(path=b.path, digest=b.digest, num_bytes=b.num_bytes, media_type=m)
                for b, m in zip(blobs[1:], media, strict=True)
            ),
            shape=shape,
            licence=notes.get("org.opencontainers.image.licenses", "unknown"),
            source=notes.get("ashore.source", ""),
            created_s=entry.created_s,
            parent=checked_digest(notes["ashore.parent"]) if "ashore.parent" in notes else None,
            recipe={str(name): str(value) for name, value in recipe.items()},
            sealed=_seal_mark(notes),
        )


def _seal_mark(notes: dict[str, str]) -> SealMark | None:
    if "ashore.sealed.key" not in notes:
        return None
    key_id, sheet = notes["ashore.sealed.key"], notes["ashore.sealed.sheet"]
    if not is_key_id(key_id) or not isinstance(sheet, str):
        raise CorruptBlob(f"{ascii(key_id)[:90]} is not the id of a sealing key", hint=_AGAIN)
    return SealMark(key_id=key_id, sheet=sheet)


def hash_of(data: bytes) -> Digest:
    """Return `sha256:…` of bytes."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
