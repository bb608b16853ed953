"""Pulls models: from a catalogue name or a source, through staging, into the layout."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from ashore.core.errors import CorruptBlob, LicenceNotAccepted, UnsupportedModel
from ashore.kit.extras import require_gguf
from ashore.kit.sealing import DataKeys
from ashore.kit.store.attachments import MAX_ATTACHED_BYTES, MAX_REFERRERS, adopt, is_attachment
from ashore.kit.store.catalog import Catalog, CatalogEntry
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.envelopes import pull_envelope
from ashore.kit.store.layout import IndexEntry
from ashore.kit.store.manifest import WEIGHT, descriptors, hash_of, media_type_of, parse_manifest
from ashore.kit.store.meant import check_form
from ashore.kit.store.model import TEXT, TEXT_FILES, StoredModel
from ashore.kit.store.ports import FileSource, ManifestRemote, SourceOpener
from ashore.kit.store.prepare import Part, prepare, prepare_text
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import parse_reference
from ashore.kit.store.shelf import Shelf, draft_of
from ashore.kit.store.sources import is_source
from ashore.kit.store.staging import staging_folder


class Puller:
    """Pulls for one store."""

    def __init__(self, shelf: Shelf, catalog: Callable[[], Catalog], sources: SourceOpener, keys: DataKeys) -> None:
        self._shelf = shelf
        self._keys = keys
        self._catalog = catalog
        self._sources = sources

    def pull(
        self, source: str, name: str | None, *, accept_licence: bool, text_only: bool, progress: Progress
    ) -> StoredModel:
        """See `ModelStore.pull`."""
        entry = self._catalog_entry(source)
        if entry and entry.accept_licence and not accept_licence:
            raise LicenceNotAccepted(
                f"{entry.name} has the licence {entry.licence}, which you must accept before the download",
                hint=f"read {entry.licence_url or 'it at the source'}, then run the command with --accept-licence",
            )
        where = entry.source if entry and source == entry.name else source
        if entry and (present := self._shelf.present(name or entry.name, where, TEXT if text_only else "")):
            return present
        if where.endswith(".gguf") or (entry and entry.format == "gguf"):
            require_gguf(source)
        sha256, hosts = (entry.sha256, entry.hosts) if entry else ("", ())
        adapter = self._sources(where, sha256=sha256, hosts=hosts, text_only=text_only)
        if isinstance(adapter, ManifestRemote):
            pull = self._pull_text_of_manifest if text_only else self._pull_manifest
            return pull(adapter, where, name, progress)
        return self._pull_files(adapter, entry, name, text_only, progress)

    def _catalog_entry(self, source: str) -> CatalogEntry | None:
        check_form(source, self._catalog().sources)
        if is_source(source) or ":" in source or os.path.isdir(source):
            return self._catalog().find_source(source)
        return self._catalog().get(source)

    def _pull_files(
        self, adapter: FileSource, entry: CatalogEntry | None, name: str | None, text_only: bool, progress: Progress
    ) -> StoredModel:
        variant = TEXT if text_only else ""
        origin = adapter.resolve()
        name = name or (entry.name if entry else origin.suggested_name)
        parse_reference(name)
        with staging_folder(self._shelf.layout.staging, origin.pinned + variant) as folder:
            if not origin.mutable and (present := self._shelf.present(name, origin.pinned, variant)):
                return present
            raw = adapter.fetch(origin, folder, progress)
            recommended = dict(entry.recommended) if entry else {}
            if text_only:
                made = prepare_text(raw, folder / "made", recommended=recommended, progress=progress)
            else:
                made = prepare(
                    raw,
                    folder / "made",
                    to_f16=bool(entry and entry.to_f16),
                    recommended=recommended,
                    progress=progress,
                )
            licence = (entry.licence if entry else "") or made.licence or origin.licence or "unknown"
            return self._shelf.commit(
                draft_of(name, made, origin.pinned, licence, variant), made.parts, progress, staging=folder
            )

    def _pull_manifest(self, remote: ManifestRemote, where: str, name: str | None, progress: Progress) -> StoredModel:
        data = remote.read_manifest()
        name = name or remote.suggested_name
        parse_reference(name)
        blobs = descriptors(data)
        entry = IndexEntry(digest=hash_of(data), num_bytes=len(data), name=name, variant="", tagged=True, created_s=0)
        draft = parse_manifest(data, entry)
        with staging_folder(self._shelf.layout.staging, where + "#" + str(entry.digest)) as folder:
            for blob in blobs:
                if self._shelf.layout.has_blob(blob.digest, blob.num_bytes):
                    continue
                remote.fetch_blob(blob, folder / blob.digest.removeprefix("sha256:"), progress)
            if draft.sealed:
                pull_envelope(self._sources, where, self._keys, draft.sealed.key_id, folder)
            with self._shelf.layout.locked(), disk_errors(self._shelf.root):
                self._shelf.check_name(name, draft.variant, data)
                for blob in blobs:
                    staged = folder / blob.digest.removeprefix("sha256:")
                    if staged.exists():
                        self._shelf.layout.link_file(staged, blob.digest)
                    elif not self._shelf.layout.has_blob(blob.digest, blob.num_bytes):
                        raise CorruptBlob(
                            f"{blob.path} was deleted during the pull", hint="`model gc` deleted it; pull again"
                        )
                model = self._shelf.register(data, name, draft.variant)
            self._pull_attachments(remote, model, folder, progress)
            return model

    def _pull_text_of_manifest(
        self, remote: ManifestRemote, where: str, name: str | None, progress: Progress
    ) -> StoredModel:
        data = remote.read_manifest()
        name = name or remote.suggested_name
        parse_reference(name)
        entry = IndexEntry(digest=hash_of(data), num_bytes=len(data), name=name, variant="", tagged=True, created_s=0)
        whole = parse_manifest(data, entry)
        if whole.sealed:
            raise UnsupportedModel(f"{where} is sealed; its text cannot be pulled alone", hint="pull the whole model")
        blobs = [blob for blob in descriptors(data)[1:] if media_type_of(blob.path) != WEIGHT]
        if TEXT_FILES[0] not in {blob.path for blob in blobs}:
            raise UnsupportedModel(f"{where} has no {TEXT_FILES[0]}", hint="pull the whole model")
        draft = dataclasses.replace(whole, variant=TEXT, format=TEXT, weights=TEXT_FILES[0], recipe={}, parent=None)
        with staging_folder(self._shelf.layout.staging, f"{where}#{entry.digest}{TEXT}") as folder:
            for blob in blobs:
                remote.fetch_blob(blob, folder / blob.digest.removeprefix("sha256:"), progress)
            parts = [Part(path=blob.path, file=folder / blob.digest.removeprefix("sha256:")) for blob in blobs]
            return self._shelf.commit(draft, parts, progress, staging=folder)

    def _pull_attachments(self, remote: ManifestRemote, model: StoredModel, folder: Path, progress: Progress) -> None:
        """Pull the attachments of a model that is in the store now."""
        found = [data for data in remote.read_referrers(model.digest) if is_attachment(data)][:MAX_REFERRERS]
        for data in found:
            for blob in descriptors(data):
                if blob.num_bytes > MAX_ATTACHED_BYTES:
                    raise CorruptBlob(f"{blob.path}, attached to {model.reference}, has {blob.num_bytes} bytes")
                remote.fetch_blob(blob, folder / blob.digest.removeprefix("sha256:"), progress)
        fetched = [(data, lambda blob: folder / blob.digest.removeprefix("sha256:")) for data in found]
        adopt(self._shelf.layout, model.digest, fetched)
