"""Deletes the blobs that sealing or unsealing leaves behind. An interrupted deletion is completed later.

removing.json      blobs that are to go, written before the index stops naming them
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from ashore.core.errors import CorruptBlob
from ashore.kit.recordfile import read_record
from ashore.kit.store.layout import IndexEntry, Layout, fsync_file, write_atomic
from ashore.kit.store.manifest import descriptors


def needed_blobs(layout: Layout, entries: Iterable[IndexEntry]) -> set[str]:
    """Return the names (hexadecimal) of the blobs that these manifests and their attachments need."""
    needed = set()
    living = {entry.digest for entry in entries}
    attached = {entry.digest for entry in layout.read_attached() if entry.subject in living}
    for digest in living | attached:
        needed.add(digest.removeprefix("sha256:"))
        try:
            data = layout.blob_path(digest).read_bytes()
        except FileNotFoundError as error:
            raise CorruptBlob(
                f"the manifest {digest} is missing, so the files that it needs are unknown, and none is deleted",
                hint="`ashore model list` names the model: pull it again, or remove it",
            ) from error
        needed |= {b.digest.removeprefix("sha256:") for b in descriptors(data)}
    return needed


def plan_removal(layout: Layout, digests: Collection[str]) -> None:
    """Record what to delete once the index no longer refers to it. The lock must be held."""
    write_atomic(_journal(layout), json.dumps(sorted({*digests, *_planned(layout)})).encode())


def finish_removal(layout: Layout) -> int:
    """Delete planned, unreferenced blobs; return the bytes freed. The lock must be held. May be called twice."""
    planned = _planned(layout)
    if not planned:
        return 0
    needed = needed_blobs(layout, layout.read_index())
    freed = sum(layout.remove_blob(d) for d in planned if d.removeprefix("sha256:") not in needed)
    fsync_file(layout.blobs)
    _journal(layout).unlink(missing_ok=True)
    return freed


def is_pending(layout: Layout) -> bool:
    """Return whether a planned removal is unfinished."""
    return _journal(layout).exists()


def _planned(layout: Layout) -> list[str]:
    return read_record(_journal(layout), list[str], if_damaged="delete it and run `ashore model gc`") or []


def _journal(layout: Layout) -> Path:
    return layout.root / "removing.json"
