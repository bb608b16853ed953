"""The identity of a replica's content as one short name. Cached answers of another identity are not used."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ashore.core.errors import InvalidSpec
from ashore.data.engines.model import EngineOptions, ModelFiles

CONTENT_CHARS: Final = 32
MOST_FILES: Final = 1000
MOST_S: Final = 2.0
"""Limits of files and time per adapter folder. An adapter saved by peft has about five files."""


def content_of(
    files: ModelFiles,
    options: EngineOptions,
    adapters: Mapping[str, str],
    *,
    now_s: Callable[[], float] = time.monotonic,
) -> str:
    """Return the identity of the loaded files: model, engine and its options, adapters.

    The files of a model are identified by their digest. An adapter is identified by name, size and time of its files,
    without reading them; a copy with another time counts as different. Machine settings (threads, memory) do not count,
    so that machines may share answers.

    Args:
        adapters: Folder of each, by name.
        now_s: Clock that bounds the time per folder, since the caller has other work.

    Raises:
        InvalidSpec: the folder of an adapter cannot be read, has too many files, or takes too long.
    """
    parts = (
        files.name,
        files.digest,
        options.kind,
        options.context_tokens,
        sorted(options.extra.items()),
        [(name, _stamp(Path(folder), now_s)) for name, folder in sorted(adapters.items())],
        *[one.digest for one in files.rungs],
    )
    return hashlib.blake2b(msgspec.json.encode(parts)).hexdigest()[:CONTENT_CHARS]


def _stamp(folder: Path, now_s: Callable[[], float]) -> list[tuple[str, int, int]]:
    """Return name, size and time of every file; empty for a missing folder, since its host reports that better."""
    found, seen, until_s = [], 0, now_s() + MOST_S
    try:
        waiting = [folder] if folder.is_dir() else []
        while waiting:
            with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:  # it may be deleted meanwhile
                for entry in entries:
                    seen += 1
                    if seen > MOST_FILES:
                        raise _too_much(folder, f"more than {MOST_FILES} files and folders")
                    if now_s() > until_s:
                        raise _too_much(folder, f"{seen} files and folders that took more than {MOST_S:g} s to scan")
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.is_file():
                        found.append((Path(entry.path).relative_to(folder), entry.stat()))
    except OSError as fault:
        raise InvalidSpec(
            f"the adapter directory {folder} cannot be read: {fault.filename or folder}: {fault.strerror}",
            hint="name the directory with adapter_config.json, and let the user that runs ashore read it",
        ) from fault
    return [(str(name), stat.st_size, stat.st_mtime_ns) for name, stat in sorted(found, key=lambda one: one[0])]


def _too_much(folder: Path, what: str) -> InvalidSpec:
    return InvalidSpec(
        f"the adapter directory {folder} has {what}; an adapter has only a few",
        hint="use the directory that contains adapter_config.json and only the files of the adapter",
    )
