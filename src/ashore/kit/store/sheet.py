"""The sheet of a sealed model: facts about the open model, sealed with the model's data key.

It names the clear hash, size and salt of every file, and the digest of the manifest that the open model has. With the
key, a reader can verify that no file was swapped and the manifest is unchanged; without it, no hash of a clear file is
revealed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import msgspec

from ashore.core.errors import CorruptBlob
from ashore.core.ids import Digest
from ashore.kit.decode import UNDECODABLE
from ashore.kit.sealing import DataKey, SecretBox
from ashore.kit.store.manifest import SEALED, config_bytes, hash_of, manifest_bytes, media_type_of
from ashore.kit.store.model import SealMark, StoredFile, StoredModel

_NAME = "sheet of a sealed model"


class SheetFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file, as it is when it is open."""

    digest: str
    num_bytes: int
    salt: str
    """Hexadecimal; ties the sealed file to this place."""


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """The whole model."""

    manifest: str
    """Digest of the open model."""
    parent: str
    """Digest of the open parent; empty where there is none."""
    files: dict[str, SheetFile]
    """By path."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SealedBlob:
    """A sealed file that stands for a clear one."""

    digest: Digest
    num_bytes: int
    salt: str


def seal_model(
    clear: StoredModel, blobs: Mapping[Digest, SealedBlob], key: DataKey, *, parent: Digest | None
) -> StoredModel:
    """Return the sealed form of a model; its digest is not yet set.

    Args:
        clear: The open model; its `parent` is the open parent.
        blobs: What stands for each file, by clear digest.
        key: Data key of all the files.
        parent: Digest of the sealed parent.
    """
    sheet = Sheet(
        manifest=digest_of(clear),
        parent=clear.parent or "",
        files={
            f.path: SheetFile(digest=f.digest, num_bytes=f.num_bytes, salt=blobs[f.digest].salt) for f in clear.files
        },
    )
    boxed = SecretBox(key).seal(_NAME, msgspec.json.encode(sheet))
    files = tuple(
        StoredFile(path=f.path, digest=blobs[f.digest].digest, num_bytes=blobs[f.digest].num_bytes, media_type=SEALED)
        for f in clear.files
    )
    return dataclasses.replace(
        clear, files=files, parent=parent, digest=Digest(""), sealed=SealMark(key_id=key.key_id, sheet=boxed)
    )


def read_sheet(model: StoredModel, key: DataKey) -> Sheet:
    """Return the verified sheet of a sealed model.

    Raises:
        CorruptBlob: the sheet, or what the manifest says beside it, was altered.
    """
    assert model.sealed is not None
    try:
        sheet = msgspec.json.decode(SecretBox(key).open(_NAME, model.sealed.sheet), type=Sheet)
    except (CorruptBlob, *UNDECODABLE) as error:
        raise CorruptBlob(f"the sheet of {model.reference} was altered", hint=_HINT) from error
    if {f.path for f in model.files} != set(sheet.files) or digest_of(open_model(model, sheet)) != sheet.manifest:
        raise CorruptBlob(
            f"the manifest of {model.reference} is not the one that was sealed: files or metadata were changed",
            hint=_HINT,
        )
    return sheet


def open_model(model: StoredModel, sheet: Sheet) -> StoredModel:
    """Return the open form of a sealed model; its digest is `sheet.manifest`."""
    files = tuple(
        StoredFile(
            path=f.path,
            digest=Digest(sheet.files[f.path].digest),
            num_bytes=sheet.files[f.path].num_bytes,
            media_type=media_type_of(f.path),
        )
        for f in model.files
    )
    parent = Digest(sheet.parent) if sheet.parent else None
    return dataclasses.replace(model, files=files, parent=parent, digest=Digest(sheet.manifest), sealed=None)


def digest_of(model: StoredModel) -> Digest:
    """Return the digest of this model's manifest."""
    config = config_bytes(model)
    return hash_of(manifest_bytes(model, hash_of(config), len(config)))


_HINT = "restore the store from a backup, or pull or import the model again"
