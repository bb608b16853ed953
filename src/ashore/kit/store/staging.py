"""Unfinished pulls: one directory per source, kept after a kill, a full disk or a lost connection."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from ashore.kit.folders import make_folder
from ashore.kit.store.diskerrors import disk_errors

_SCRATCH: Final = ".preparing-"


@contextmanager
def staging_folder(parent: Path, source: str) -> Iterator[Path]:
    """Hold the folder of this source: a second pull of it waits until the first is done.

    The folder is deleted on success and kept on failure, so that the next call resumes.
    """
    key = hashlib.sha256(source.encode()).hexdigest()[:24]
    with disk_errors(parent):
        make_folder(parent)
        lock = (parent / f"{key}.lock").open("a+b")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = parent / key
        with disk_errors(parent):
            make_folder(folder)
            (folder / "source").write_text(source, encoding="utf-8")
        yield folder
        shutil.rmtree(folder)


def drop_stale(parent: Path, *, older_than_s: float, now_s: float) -> int:
    """Delete staging folders that are unlocked and unchanged for so long; return the bytes freed."""
    freed = 0
    for folder in (p for p in parent.iterdir() if p.is_dir()):
        with (parent / f"{folder.name}.lock").open("a+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            files = [p for p in folder.rglob("*") if p.is_file()]
            newest = max((p.stat().st_mtime for p in files), default=0.0)
            if now_s - newest >= older_than_s:
                freed += sum(p.stat().st_size for p in files)
                shutil.rmtree(folder)
    return freed


@contextmanager
def scratch_folder(root: Path, lock: Callable[[], AbstractContextManager[None]]) -> Iterator[Path]:
    """Yield an empty folder in `root`, deleted at the end of the block or, after a crash, by the next call.

    Args:
        root: Beside the blobs, so that a finished file is linked and not copied.
        lock: Holds the store, so that the folder is not deleted before it is locked.
    """
    with lock():
        drop_dead_scratch(root)
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=root))
        holder = os.open(folder, os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(holder)


def drop_dead_scratch(root: Path) -> int:
    """Delete the scratch folders of killed processes; return the bytes freed.

    A live process locks its own. The caller holds the store's lock.
    """
    freed = 0
    for folder in root.glob(f"{_SCRATCH}*"):
        holder = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            freed += sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(holder)
    return freed


def drop_scratch_of(staging: Path, root: Path, *, sources: Collection[str], idle_s: float = 600.0) -> None:
    """Delete plaintext that killed commands may have left of a model: pulls of these sources, half-made variants and,
    if unchanged for a while, unpacked archives. The caller holds the store's lock.
    """
    for folder in (p for p in staging.iterdir() if p.is_dir()):
        note = folder / "source"
        if folder.name.startswith("import-"):
            if time.time() - folder.stat().st_mtime >= idle_s:
                shutil.rmtree(folder, ignore_errors=True)
        elif note.is_file() and note.read_text(encoding="utf-8") in sources:
            with (staging / f"{folder.name}.lock").open("a+b") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
    drop_dead_scratch(root)
