"""Folders of links under `run/models/`: a model's files by name for engines, without a second copy."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from ashore.kit.folders import make_folder
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.layout import Layout
from ashore.kit.store.model import StoredModel


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
