"""Maintenance of a store: verify hashes, remove models, delete unused files."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from ashore.core.errors import Conflict, CorruptBlob, KeyServiceUnreachable, SealingKeyMissing
from ashore.core.ids import Digest
from ashore.kit.folders import make_folder
from ashore.kit.store.attachments import attachments
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.layout import Layout
from ashore.kit.store.model import StoredFile, StoredModel
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import parse_reference
from ashore.kit.store.removal import finish_removal, needed_blobs
from ashore.kit.store.reports import BadFile, GcReport, VerifyReport
from ashore.kit.store.sealer import Opened, Sealer
from ashore.kit.store.shelf import Shelf
from ashore.kit.store.staging import drop_dead_scratch, drop_stale
from ashore.kit.store.tiers import Tiers

STAGING_KEPT_S = 7 * 86_400.0
"""An unfinished pull that nobody touched for a week is garbage."""


def link_model(model: StoredModel, layout: Layout, run_models: Path) -> Path:
    """Return `run_models/<digest>/` with one link for each file, created unless it exists and is right."""
    target = run_models / model.digest.removeprefix("sha256:")
    wanted = {f.path: str(layout.blob_path(f.digest).absolute()) for f in model.files}
    if _is_right(target, wanted):
        return target
    with disk_errors(run_models):
        make_folder(run_models)
        scratch = Path(tempfile.mkdtemp(dir=run_models, prefix=".tmp-"))
        for path, blob in wanted.items():
            make_folder((scratch / path).parent)
            (scratch / path).symlink_to(blob)
        try:
            scratch.rename(target)
        except OSError:
            # Another process created it first, or it is an old one with wrong links.
            if _is_right(target, wanted):
                shutil.rmtree(scratch)
            else:
                shutil.rmtree(target, ignore_errors=True)
                scratch.rename(target)
    return target


def drop_links(run_models: Path, kept: Collection[str]) -> None:
    """Delete the folders of models whose digest is not among `kept`."""
    names = {d.removeprefix("sha256:") for d in kept}
    for path in run_models.iterdir() if run_models.exists() else ():
        if path.is_dir() and len(path.name) == 64 and path.name not in names:
            shutil.rmtree(path)


def _is_right(folder: Path, wanted: dict[str, str]) -> bool:
    return folder.is_dir() and all(_points_to(folder / path, blob) for path, blob in wanted.items())


def _points_to(link: Path, blob: str) -> bool:
    return link.is_symlink() and os.readlink(link) == blob


def verify(shelf: Shelf, ref: str | None, progress: Progress, sealer: Sealer) -> VerifyReport:
    """See `ModelStore.verify`."""
    models, broken = shelf.survey() if ref is None else ((shelf.resolve(ref),), ())
    bad = list(broken)
    done: dict[Digest, str] = {}
    total = sum({f.digest: f.num_bytes for m in models for f in m.files}.values())
    seen = 0
    closed: list[str] = []
    for model in models:
        opened: Opened | None = None
        if model.sealed is not None:
            try:
                opened = sealer.open(model)
            except (SealingKeyMissing, KeyServiceUnreachable):
                closed.append(model.reference)
            except CorruptBlob as error:
                bad.append(BadFile(reference=model.reference, path="", digest=model.digest, problem=error.message))
        for file in model.files:
            if file.digest not in done:
                done[file.digest] = _problem_of(shelf, file, model)
                if opened is not None and not done[file.digest]:
                    done[file.digest] = sealer.clear_problem(opened, file)
                seen += file.num_bytes
                progress("verify", seen, total)
            if done[file.digest]:
                bad.append(
                    BadFile(reference=model.reference, path=file.path, digest=file.digest, problem=done[file.digest])
                )
        for attachment in attachments(shelf.layout, model.digest):
            for file in attachment.files:
                problem = _problem_of(shelf, file, model)
                if problem:
                    path = f"{attachment.kind}/{file.path}"
                    bad.append(BadFile(reference=model.reference, path=path, digest=file.digest, problem=problem))
    return VerifyReport(
        num_models=len(models),
        num_files=len(done),
        num_bytes=total,
        bad=tuple(bad),
        closed=tuple(closed),
        outdated=tuple(model.reference for model in models if shelf.pools_otherwise(model)),
    )


def remove(shelf: Shelf, ref: str, *, variants: bool) -> tuple[str, ...]:
    """See `ModelStore.remove`."""
    reference = parse_reference(ref)
    with shelf.layout.locked():
        entries = shelf.layout.read_index()
        target = shelf.find(reference)
        gone = [target]
        if not target.variant:
            made = [e for e in entries if e.tagged and e.name == target.name and e.variant]
            if made and not variants:
                names = ", ".join(f"{e.name}@{e.variant}" for e in made)
                raise Conflict(f"{ref} has variants: {names}", hint="remove them first, or add --variants")
            gone += made
        digests = {(e.digest, e.name, e.variant) for e in gone}
        shelf.layout.write_index(
            tuple(
                dataclasses.replace(e, tagged=False) if (e.digest, e.name, e.variant) in digests else e for e in entries
            )
        )
    return tuple(f"{e.name}@{e.variant}" if e.variant else e.name for e in gone)


def garbage(shelf: Shelf, keep: Collection[str]) -> GcReport:
    """See `ModelStore.garbage`."""
    with shelf.layout.locked():
        entries = shelf.layout.read_index()
        kept = tuple(e for e in entries if e.tagged or e.digest in keep)
        needed = needed_blobs(shelf.layout, kept)
        sizes = [path.stat().st_size for path in shelf.layout.blobs.iterdir() if path.name not in needed]
    dropped = tuple(e.digest for e in entries if e not in kept)
    return GcReport(models=dropped, num_blobs=len(sizes), freed_bytes=sum(sizes))


def collect_garbage(shelf: Shelf, keep: Collection[str], *, run_models: Path, now_s: float) -> GcReport:
    """See `ModelStore.gc`."""
    with shelf.layout.locked():
        entries = shelf.layout.read_index()
        finish_removal(shelf.layout)
        kept = tuple(e for e in entries if e.tagged or e.digest in keep)
        dropped = tuple(e.digest for e in entries if e not in kept)
        shelf.layout.write_index(kept)
        needed = needed_blobs(shelf.layout, kept)
        freed = num_blobs = 0
        for path in sorted(shelf.layout.blobs.iterdir()):
            if path.name not in needed:
                freed += shelf.layout.remove_blob(path.name)
                num_blobs += 1
        for path in shelf.layout.facts.glob("*.json"):
            if path.stem not in needed:
                path.unlink()
        freed += drop_dead_scratch(shelf.root)
    freed += drop_stale(shelf.layout.staging, older_than_s=STAGING_KEPT_S, now_s=now_s)
    drop_links(run_models, {e.digest for e in kept})
    return GcReport(models=dropped, num_blobs=num_blobs, freed_bytes=freed)


def _problem_of(shelf: Shelf, file: StoredFile, model: StoredModel) -> str:
    if not shelf.layout.blob_path(file.digest).exists() and Tiers(shelf.layout).copy_of(file.digest) is not None:
        return ""  # in a bucket, where it is hashed on its way back
    try:
        shelf.layout.check_blob(file.digest, file.num_bytes, full=True, what=f"{file.path} of {model.reference}")
    except CorruptBlob as error:
        return error.message
    return ""
