"""Seals and unseals models. Unsealed bytes are deleted only after the sealed ones are verified.

A model and its variants are one family with one data key, sealed and unsealed together. The order is: envelope of the
data key, sealed blobs, proof that they decrypt to the clear bytes, removal plan, index, removal. A crash before the
index changes leaves the clear model; one after it leaves the sealed model, and the next command completes the removal.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.bytesize import human_bytes
from ashore.core.errors import Conflict, CorruptBlob, DiskFull, InvalidRequest, SealingKeyMissing, UnsupportedModel
from ashore.core.ids import Digest
from ashore.kit.sealing import DataKey, DataKeys
from ashore.kit.sealing.clearfiles import SealedFile
from ashore.kit.sealing.sealedfile import hash_of_sealed, open_file, read_sealed_header, seal_file
from ashore.kit.store.attachments import moved
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.fingerprint import sha256_file
from ashore.kit.store.layout import IndexEntry
from ashore.kit.store.manifest import config_bytes, descriptors, hash_of, manifest_bytes, media_type_of
from ashore.kit.store.model import StoredFile, StoredModel
from ashore.kit.store.prepare import Part
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import parse_reference
from ashore.kit.store.removal import finish_removal, plan_removal
from ashore.kit.store.reports import SealReport
from ashore.kit.store.sheet import SealedBlob, Sheet, open_model, read_sheet, seal_model
from ashore.kit.store.shelf import Shelf
from ashore.kit.store.staging import drop_scratch_of, staging_folder

KEY_NOTE: Final = "key"
"""File in a staging folder with the id of the data key that an interrupted call used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A sealed model with its key."""

    model: StoredModel
    key: DataKey
    sheet: Sheet


class Sealer:
    """Seals for one store."""

    def __init__(self, shelf: Shelf, keys: DataKeys) -> None:
        self._shelf = shelf
        self._keys = keys

    def open(self, model: StoredModel) -> Opened:
        """Return the key and the sheet of a sealed model.

        Raises:
            SealingKeyMissing: no key source, or it lacks the key.
            CorruptBlob: the manifest or the sheet was altered.
        """
        if model.sealed is None:
            raise InvalidRequest(f"{model.reference} is not sealed")
        key = self._keys.open(model.sealed.key_id)
        return Opened(model=model, key=key, sheet=read_sheet(model, key))

    def sealed_files(self, opened: Opened) -> tuple[SealedFile, ...]:
        """Return the files of a sealed model with what is needed to open them."""
        return tuple(
            SealedFile(
                path=file.path,
                blob=str(self._shelf.layout.blob_path(file.digest).absolute()),
                salt=opened.sheet.files[file.path].salt,
                clear_bytes=opened.sheet.files[file.path].num_bytes,
            )
            for file in opened.model.files
        )

    def seal(self, name: str, progress: Progress) -> SealReport:
        """See `ModelStore.seal`."""
        family = self._family(name)
        clear = [model for model in family if model.sealed is None]
        if not clear:
            return self._report((), 0, self._finish(name))
        with staging_folder(self._shelf.layout.staging, f"seal:{name}") as folder, disk_errors(folder):
            key, known = self._key_of(family, folder)
            files = {f.digest: f for model in clear for f in model.files if f.digest not in known}
            self._refuse_without_room(folder, [f for f in files.values() if not _staged(folder, f.digest).exists()])
            staged = self._seal_files(files, folder, key, progress)
            blobs = {**known, **{digest: blob for digest, (blob, _) in staged.items()}}
            renamed: dict[Digest, Digest] = {}
            made = []
            for model in sorted(clear, key=lambda m: m.variant):  # the parent first
                parent = renamed.get(model.parent, model.parent) if model.parent else None
                sealed = _with_digest(seal_model(model, blobs, key, parent=parent))
                renamed[model.digest] = sealed.digest
                made.append((model, sealed))
            freed = self._exchange(made, [(path, blob.digest) for blob, path in staged.values()], key)
        return self._report(tuple(new.reference for _, new in made), sum(f.num_bytes for f in files.values()), freed)

    def unseal(self, name: str, progress: Progress) -> SealReport:
        """See `ModelStore.unseal`."""
        opened = [self.open(model) for model in self._family(name) if model.sealed is not None]
        if not opened:
            return self._report((), 0, self._finish(name))
        with staging_folder(self._shelf.layout.staging, f"unseal:{name}") as folder, disk_errors(folder):
            wanted = {f.digest: (f, one) for one in opened for f in one.model.files}
            self._refuse_without_room(folder, [f for f, _ in wanted.values()])
            staged: list[tuple[Path, Digest]] = []
            total, done = sum(f.num_bytes for f, _ in wanted.values()), 0
            for file, one in wanted.values():
                staged.append(self._open_file(file, one, folder))
                done += file.num_bytes
                progress(f"unseal {file.path}", done, total)
            made = [(one.model, _with_digest(open_model(one.model, one.sheet))) for one in opened]
            freed = self._exchange(made, staged, None)
        self.drop_unused_keys()
        return self._report(tuple(new.reference for _, new in made), total, freed)

    def add_variant(
        self,
        parent: StoredModel,
        draft: StoredModel,
        parts: Sequence[Part],
        inherited: Iterable[StoredFile],
        progress: Progress,
    ) -> StoredModel:
        """Store a variant of a sealed model, sealed with the same data key. Its parts are in memory (`scratch`)."""
        opened = self.open(parent)
        with staging_folder(self._shelf.layout.staging, f"seal:{draft.reference}") as folder, disk_errors(folder):
            (folder / KEY_NOTE).unlink(missing_ok=True)
            paths, blobs = {f.path for f in inherited}, _known(opened)
            files = [f for f in open_model(parent, opened.sheet).files if f.path in paths]
            staged = []
            for part in parts:
                digest = sha256_file(part.file, stage=f"hash {part.path}", progress=progress)
                num_bytes = part.file.stat().st_size
                blob, path = self._seal_one(part.file, digest, folder, opened.key, part.path)
                blobs[digest] = blob
                staged.append((path, blob.digest))
                media_type = media_type_of(part.path)
                files.append(StoredFile(path=part.path, digest=digest, num_bytes=num_bytes, media_type=media_type))
            files.sort(key=lambda f: f.path)
            clear = dataclasses.replace(draft, files=tuple(files), parent=Digest(opened.sheet.manifest))
            sealed = seal_model(clear, blobs, opened.key, parent=parent.digest)
            config = config_bytes(sealed)
            data = manifest_bytes(sealed, hash_of(config), len(config))
            with self._shelf.layout.locked(), disk_errors(self._shelf.root):
                self._shelf.check_name(draft.name, draft.variant, data)
                self._keys.ensure(opened.key)
                for path, digest in staged:
                    self._shelf.layout.link_file(path, digest)
                self._shelf.layout.add_bytes(config)
                return self._shelf.register(data, draft.name, draft.variant)

    def clear_problem(self, opened: Opened, file: StoredFile) -> str:
        """Return what is wrong with the plaintext of a sealed file; empty if it is intact."""
        kept = opened.sheet.files[file.path]
        what = f"{file.path} of {opened.model.reference}"
        try:
            seen = hash_of_sealed(
                self._shelf.layout.blob_path(file.digest), opened.key, salt=bytes.fromhex(kept.salt), what=what
            )
        except CorruptBlob as error:
            return error.message
        return (
            ""
            if f"sha256:{seen}" == kept.digest
            else f"{what} has the hash {seen} after decryption, expected {kept.digest}"
        )

    def drop_unused_keys(self) -> int:
        """Delete the envelopes of data keys that no manifest uses; return how many. Old manifests count.

        If a manifest cannot be read, nothing is deleted: it may need a key.
        """
        with self._shelf.layout.locked():
            ids = tuple(self._keys.ids())
            try:
                models = [self._shelf.read(entry) for entry in self._shelf.layout.read_index()] if ids else []
            except (CorruptBlob, UnsupportedModel):
                return 0
            used = {model.sealed.key_id for model in models if model.sealed}
            unused = [key_id for key_id in ids if key_id not in used]
            for key_id in unused:
                self._keys.remove(key_id)
        return len(unused)

    # Steps

    def _family(self, name: str) -> tuple[StoredModel, ...]:
        reference = parse_reference(name)
        if reference.variant or reference.digest:
            raise InvalidRequest(
                f"{name}: a model can be sealed or unsealed only with all its variants",
                hint=f"give the model name: {reference.name}",
            )
        self._shelf.find(reference)
        return tuple(model for model in self._shelf.list() if model.name == name)

    def _key_of(self, family: Sequence[StoredModel], folder: Path) -> tuple[DataKey, dict[Digest, SealedBlob]]:
        """Return the family's data key, created if needed, and its already sealed files."""
        sealed = [self.open(model) for model in family if model.sealed is not None]
        if sealed:
            key = sealed[0].key
            return key, {d: b for one in sealed if one.key == key for d, b in _known(one).items()}
        note = folder / KEY_NOTE
        if note.exists():
            try:
                return self._keys.open(note.read_text(encoding="ascii")), {}
            except (SealingKeyMissing, CorruptBlob, ValueError):
                for path in folder.glob("*.sealed"):  # they can no longer be opened
                    path.unlink()
        key = self._keys.create()
        note.write_text(key.key_id, encoding="ascii")
        return key, {}

    def _seal_files(
        self, files: dict[Digest, StoredFile], folder: Path, key: DataKey, progress: Progress
    ) -> dict[Digest, tuple[SealedBlob, Path]]:
        total, done = sum(f.num_bytes for f in files.values()), 0
        staged = {}
        for digest, file in files.items():
            source = self._shelf.layout.blob_path(digest)
            staged[digest] = self._seal_one(source, digest, folder, key, file.path, _after(progress, done, total))
            done += file.num_bytes
        return staged

    def _seal_one(
        self,
        source: Path,
        digest: Digest,
        folder: Path,
        key: DataKey,
        path: str,
        told: Callable[[int], None] = lambda done: None,
    ) -> tuple[SealedBlob, Path]:
        """Seal one file into staging and verify that it opens to the same bytes; an existing verified one is kept."""
        target = _staged(folder, digest)
        clear_hex = digest.removeprefix("sha256:")
        if target.exists() and not self._proves(target, key, clear_hex, path):
            target.unlink()
        if not target.exists():
            half = target.with_suffix(".part")
            seal_file(source, half, key, sha256=clear_hex, what=path, told=told)
            half.rename(target)
            if not self._proves(target, key, clear_hex, path):
                raise CorruptBlob(
                    f"{path} was sealed but does not decrypt to the same bytes; the unsealed model is unchanged",
                    hint="check the memory and the disk of this machine",
                )
        header = read_sealed_header(target, what=path)
        blob = SealedBlob(digest=sha256_file(target), num_bytes=header.sealed_bytes, salt=header.salt.hex())
        return blob, target

    def _proves(self, target: Path, key: DataKey, clear_hex: str, path: str) -> bool:
        try:
            return hash_of_sealed(target, key, salt=None, what=path) == clear_hex
        except CorruptBlob:
            return False

    def _open_file(self, file: StoredFile, opened: Opened, folder: Path) -> tuple[Path, Digest]:
        kept = opened.sheet.files[file.path]
        what = f"{file.path} of {opened.model.reference}"
        target = folder / f"{kept.digest.removeprefix('sha256:')}.clear"
        with target.open("wb") as writing:
            source = self._shelf.layout.blob_path(file.digest)
            open_file(source, writing.fileno(), opened.key, salt=bytes.fromhex(kept.salt), what=what)
            os.fsync(writing.fileno())
        seen = sha256_file(target)
        if seen != kept.digest:
            raise CorruptBlob(
                f"{what} has the hash {seen} after decryption, expected {kept.digest}", hint="restore it from a backup"
            )
        return target, seen

    def _exchange(
        self,
        models: Sequence[tuple[StoredModel, StoredModel]],
        staged: Sequence[tuple[Path, Digest]],
        key: DataKey | None,
    ) -> int:
        """Replace the old forms of models with the new ones; return the bytes freed."""
        layout, name = self._shelf.layout, models[0][0].name
        with layout.locked(), disk_errors(self._shelf.root):
            entries = layout.read_index()
            present = {(e.digest, e.variant): e for e in entries if e.name == name and e.tagged}
            gone = [old.reference for old, _ in models if (old.digest, old.variant) not in present]
            if gone:
                raise Conflict(f"{', '.join(gone)} changed in the meantime", hint="run the same command again")
            if key is not None:
                self._keys.ensure(key)
            for path, digest in staged:
                layout.link_file(path, digest)
            fresh = []
            for old, new in models:
                config = config_bytes(new)
                layout.add_bytes(config)
                data = manifest_bytes(new, hash_of(config), len(config))
                digest = layout.add_bytes(data)
                entry = present[old.digest, old.variant]
                fresh.append(dataclasses.replace(entry, digest=digest, num_bytes=len(data)))
            replaced = {(old.digest, old.variant) for old, _ in models}
            kept = [e for e in entries if not _leaves(e, name, replaced)]
            leaving = [e for e in entries if _leaves(e, name, replaced)]
            plan_removal(layout, {d for e in leaving for d in (e.digest, *_blobs_of(layout.blob_path(e.digest)))})
            renamed = {old.digest: entry for (old, _), entry in zip(models, fresh, strict=True)}
            layout.write_index((*kept, *fresh), (*layout.read_attached(), *moved(layout, renamed)))
            freed = finish_removal(layout)
            if key is not None:
                drop_scratch_of(layout.staging, self._shelf.root, sources={old.source for old, _ in models})
        return freed

    def _finish(self, name: str) -> int:
        """Complete a killed call that had changed the index; return the bytes freed."""
        for verb in ("seal", "unseal"):
            with staging_folder(self._shelf.layout.staging, f"{verb}:{name}"):
                continue
        with self._shelf.layout.locked():
            return finish_removal(self._shelf.layout)

    def _refuse_without_room(self, folder: Path, files: Iterable[StoredFile]) -> None:
        need, free = sum(f.num_bytes for f in files), shutil.disk_usage(folder).free
        if need > free:
            raise DiskFull(
                f"sealing needs room for a second copy of the model: {human_bytes(need)}; {folder} has "
                f"{human_bytes(free)}",
                hint="free some space (`ashore model gc` may help) and run the same command again",
            )

    def _report(self, models: tuple[str, ...], num_bytes: int, freed: int) -> SealReport:
        return SealReport(models=models, num_bytes=num_bytes, freed_bytes=freed)


def _known(opened: Opened) -> dict[Digest, SealedBlob]:
    """Return the sealed files of a model by the digest of their plaintext."""
    return {
        Digest(opened.sheet.files[f.path].digest): SealedBlob(
            digest=f.digest, num_bytes=f.num_bytes, salt=opened.sheet.files[f.path].salt
        )
        for f in opened.model.files
    }


def _leaves(entry: IndexEntry, name: str, replaced: set[tuple[Digest, str]]) -> bool:
    """Return whether an entry is removed: exchanged ones, and older versions under the same name, which contain its
    bytes.
    """
    return entry.name == name and ((entry.digest, entry.variant) in replaced or not entry.tagged)


def _blobs_of(manifest: Path) -> list[Digest]:
    return [blob.digest for blob in descriptors(manifest.read_bytes())]


def _with_digest(model: StoredModel) -> StoredModel:
    config = config_bytes(model)
    return dataclasses.replace(model, digest=hash_of(manifest_bytes(model, hash_of(config), len(config))))


def _staged(folder: Path, digest: Digest) -> Path:
    return folder / f"{digest.removeprefix('sha256:')}.sealed"


def _after(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress("seal", before + done, total)
