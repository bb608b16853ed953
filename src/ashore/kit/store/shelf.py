"""The models of a layout by name: lookup, and naming of new ones under the layout's lock."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import Conflict, CorruptBlob, UnknownModel, UnknownVariant, UnsupportedModel
from ashore.core.ids import Digest
from ashore.core.nearest import did_you_mean, nearest_names
from ashore.kit.folders import make_folder
from ashore.kit.store.catalog import Catalog
from ashore.kit.store.conversion.pooling import EMBEDDING, embedding_of, is_embedder, read_part
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.fingerprint import sha256_file
from ashore.kit.store.layout import IndexEntry, Layout, check_path
from ashore.kit.store.manifest import config_bytes, hash_of, manifest_bytes, media_type_of, parse_manifest
from ashore.kit.store.meant import check_form, meant
from ashore.kit.store.model import StoredFile, StoredModel
from ashore.kit.store.prepare import Part, Prepared
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import Reference, name_from, parse_reference, unpinned
from ashore.kit.store.reports import BadFile
from ashore.kit.store.sources import is_path, is_source, path_of

_AGAIN: Final = "pull the model again; if what it came from has changed since, remove it before"


class Shelf:
    """Shared by the store's use cases: the layout, its index, and the rules for names."""

    def __init__(self, root: Path, clock: Clock, catalog: Callable[[], Catalog]) -> None:
        """Create the object, and missing folders of the layout."""
        self.root = root
        self.layout = Layout(root)
        self._clock = clock
        self._catalog = catalog
        if os.access(root, os.W_OK) or not root.exists():
            self.layout.create()

    # Looking up

    def list(self) -> tuple[StoredModel, ...]:
        """See `ModelStore.list`."""
        return self.survey()[0]

    def survey(self) -> tuple[tuple[StoredModel, ...], tuple[BadFile, ...]]:
        """See `ModelStore.survey`."""
        found, broken = [], []
        for entry in sorted((e for e in self.layout.read_index() if e.tagged), key=lambda e: (e.name, e.variant)):
            try:
                found.append(self.read(entry))
            except CorruptBlob as fault:
                reference = f"{entry.name}@{entry.variant}" if entry.variant else entry.name
                broken.append(BadFile(reference=reference, path="", digest=entry.digest, problem=fault.message))
        return tuple(found), tuple(broken)

    def resolve(self, ref: str) -> StoredModel:
        """See `ModelStore.resolve`."""
        check_form(ref, self._catalog().sources)
        if is_source(ref):
            return self._resolve_source(ref)
        return self.read(self.find(parse_reference(ref)))

    def find(self, reference: Reference) -> IndexEntry:
        """Return the entry of a reference. Raises `UnknownModel` or `UnknownVariant`, with similar names."""
        entries = self.layout.read_index()
        named = [e for e in entries if e.name == reference.name]
        if reference.digest is not None:
            for entry in named:
                if entry.digest == reference.digest:
                    return entry
            raise UnknownModel(
                f"the store has no {reference.name}@{reference.digest}",
                hint=did_you_mean(reference.digest, [e.digest for e in named]),
            )
        tagged = [e for e in named if e.tagged]
        for entry in tagged:
            if entry.variant == reference.variant:
                return entry
        if tagged and reference.variant:
            raise UnknownVariant(
                f"{reference.name} has no variant {reference.variant!r}",
                hint=did_you_mean(reference.variant, [e.variant for e in tagged if e.variant]),
            )
        if tagged:
            raise UnknownModel(
                f"the store has no model {reference.name!r}",
                hint=f"its variant was imported alone: name {' or '.join(f'{e.name}@{e.variant}' for e in tagged)}",
            )
        names = {e.name for e in entries if e.tagged}
        catalog = self._catalog()
        in_catalog = any(e.name == reference.name for e in catalog.entries)
        near = nearest_names(reference.name, names | {e.name for e in catalog.entries})
        has = f"the store has {', '.join(sorted(names))}" if names else "the store is empty"
        hint = did_you_mean(reference.name, near) if near else f"{has}; run `ashore model catalog` to see the catalogue"
        raise UnknownModel(
            f"the store has no model {reference.name!r}",
            hint=f"pull it: ashore model pull {reference.name}"
            if in_catalog
            else meant(reference.name, catalog.sources) or hint,
        )

    def read(self, entry: IndexEntry) -> StoredModel:
        """Return the model of an entry. Raises `CorruptBlob` if its manifest is missing or altered."""
        path = self.layout.blob_path(entry.digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptBlob(f"manifest {path} of {entry.name} is missing", hint=_AGAIN) from error
        if hash_of(data) != entry.digest:
            raise CorruptBlob(f"manifest {path} of {entry.name} was altered", hint=_AGAIN)
        return parse_manifest(data, entry)

    def present(self, name: str, pinned: str, variant: str = "") -> StoredModel | None:
        """Return the model called `name` if it is intact, came from `pinned`, and is in the current form."""
        for entry in self.layout.read_index():
            if entry.tagged and (entry.name, entry.variant) == (name, variant):
                try:
                    model = self.read(entry)
                except CorruptBlob:
                    return None
                whole = all(self.layout.has_blob(f.digest, f.num_bytes) for f in model.files)
                return model if model.source == pinned and whole and not self.pools_otherwise(model) else None
        return None

    def pools_otherwise(self, model: StoredModel) -> bool:
        """Return whether an embedder was pulled before ashore read its pooling, and its files specify another one than
        the mean that it is served with until it is pulled again. Unknown for a sealed model: False.
        """
        files = {f.path: self.layout.blob_path(f.digest) for f in model.files}
        if not model.shape.is_encoder or model.sealed or EMBEDDING in files:
            return False

        def read(name: str) -> bytes | None:
            return read_part(files[name]) if name in files else None

        try:
            if not is_embedder(json.loads(read("config.json") or b"{}"), read):
                return False
            told = embedding_of(read)
            return told.pooling != "mean" or bool(told.dense or told.default_prompt)
        except UnsupportedModel:
            return True

    # Naming

    def commit(
        self,
        draft: StoredModel,
        parts: Sequence[Part],
        progress: Progress,
        *,
        inherited: Sequence[StoredFile] = (),
        staging: Path | None = None,
    ) -> StoredModel:
        """Hash the parts, then, under the lock, link them in and name the manifest."""
        files: list[tuple[StoredFile, Path]] = []
        for part in parts:
            check_path(part.path)
            owned = part.file
            if staging is not None and (part.file.is_symlink() or not part.file.is_relative_to(staging)):
                owned = _copy_in(part, staging, progress)
            digest = sha256_file(owned, stage=f"hash {part.path}", progress=progress)
            files.append(
                (
                    StoredFile(
                        path=part.path,
                        digest=digest,
                        num_bytes=owned.stat().st_size,
                        media_type=media_type_of(part.path),
                    ),
                    owned,
                )
            )
        everything = sorted((*(f for f, _ in files), *inherited), key=lambda f: f.path)
        draft = dataclasses.replace(draft, files=tuple(everything))
        with self.layout.locked(), disk_errors(self.root):
            config = config_bytes(draft)
            data = manifest_bytes(draft, hash_of(config), len(config))
            self.check_name(draft.name, draft.variant, data)
            for stored, path in files:
                self.layout.link_file(path, stored.digest)
            self.layout.add_bytes(config)
            return self.register(data, draft.name, draft.variant)

    def register(self, data: bytes, name: str, variant: str) -> StoredModel:
        """Name a manifest whose blobs are in place. The lock must be held."""
        digest = self.layout.add_bytes(data)
        entries = self.layout.read_index()
        same = next((e for e in entries if e.digest == digest and (e.name, e.variant) == (name, variant)), None)
        entry = IndexEntry(
            digest=digest,
            num_bytes=len(data),
            name=name,
            variant=variant,
            tagged=True,
            created_s=same.created_s if same else int(self._clock.now_s()),
        )
        others = [
            dataclasses.replace(e, tagged=False) if (e.name, e.variant) == (name, variant) else e
            for e in entries
            if e is not same
        ]
        self.layout.write_index((*others, entry))
        return parse_manifest(data, entry)

    def check_name(self, name: str, variant: str, data: bytes) -> None:
        """Refuse to re-point a name to a model from elsewhere."""
        probe = IndexEntry(
            digest=hash_of(data), num_bytes=len(data), name=name, variant=variant, tagged=True, created_s=0
        )
        new = parse_manifest(data, probe)
        for entry in self.layout.read_index():
            if entry.tagged and entry.digest != new.digest and (entry.name, entry.variant) == (name, variant):
                old = self.read(entry)
                if unpinned(old.source) != unpinned(new.source):
                    raise Conflict(
                        f"the name {name!r} is taken by a model from {old.source}; the new one is from {new.source}",
                        hint="give another name: `ashore model pull SOURCE --name NAME`; then `ashore up SOURCE` works",
                    )

    def _resolve_source(self, source: str) -> StoredModel:
        entry = self._catalog().find_source(source)
        given = f"file:{path_of(source)}" if is_path(source) else source
        found = [m for m in self.list() if not m.variant and given in (m.source, unpinned(m.source))]
        if found:
            return max(found, key=lambda model: model.created_s)
        if entry:
            return self.resolve(entry.name)
        if is_path(source):  # a model of this name may be from another directory
            raise UnknownModel(
                f"the store has no model from {path_of(source)}", hint=f"pull it: ashore model pull {source}"
            )
        return self.resolve(name_from(source.partition("==")[0]))


def draft_of(name: str, made: Prepared, source: str, licence: str, variant: str = "") -> StoredModel:
    """Return the model without files and digest."""
    return StoredModel(
        name=name,
        variant=variant,
        digest=Digest(""),
        format=made.format,
        weights=made.weights,
        files=(),
        shape=made.shape,
        licence=licence,
        source=source,
        created_s=0,
        recipe=made.recipe,
    )


def _copy_in(part: Part, staging: Path, progress: Progress) -> Path:
    """Copy a file of the user's into staging, so that the store owns its bytes."""
    target = staging / "copied" / part.path
    with disk_errors(target):
        make_folder(target.parent)
        target.unlink(missing_ok=True)
        total = part.file.stat().st_size
        done = 0
        with part.file.open("rb") as source, target.open("wb") as file:
            while chunk := source.read(1 << 22):
                file.write(chunk)
                done += len(chunk)
                progress(f"copy {part.path}", done, total)
    return target
