"""What decides the answers of a replica, as one short name: another name means that kept answers are another's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from ashore.engines.model import EngineOptions, ModelFiles

CONTENT_CHARS: Final = 32


def content_of(files: ModelFiles, options: EngineOptions, adapters: Mapping[str, str]) -> str:
    """Return the name of what is loaded: files of the model, engine and its options, adapters.

    The files of a model are named by their digest. An adapter is told by name, size and time of its files, which costs
    no reading; a copy with another time counts as another one. How a machine runs the model (threads, memory) does not
    count, so that machines may share answers.

    Args:
        adapters: Folder of each, by name.
    """
    parts = (
        files.name,
        files.digest,
        options.kind,
        options.context_tokens,
        sorted(options.extra.items()),
        [(name, _stamp(Path(folder))) for name, folder in sorted(adapters.items())],
    )
    return hashlib.blake2b(msgspec.json.encode(parts)).hexdigest()[:CONTENT_CHARS]


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of every file; of nothing where there is no folder, for its host says so better."""
    found = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    stats = [(path, path.stat()) for path in found]
    return [(str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
