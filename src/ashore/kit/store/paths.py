"""Untrusted paths: in manifests, archives, listings and model files. All must stay inside their folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ashore.core.errors import CorruptBlob

_MAX_PATH_BYTES: Final = 1024
_MAX_PART_BYTES: Final = 200
"""File systems take 255; what lies beside a file while it is written has a longer name."""
_HINT: Final = "do not use it: it is malicious or damaged"


def check_path(path: str) -> None:
    """Raise `CorruptBlob` unless `path` is relative, plain, not too long, and stays inside its folder."""
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise CorruptBlob(f"the path {_shown(path)} points outside the model's directory", hint=_HINT)
    if not path.isprintable():
        raise CorruptBlob(f"the path {_shown(path)} has characters that are not allowed in a file name", hint=_HINT)
    if len(path.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        raise CorruptBlob(f"the path {_shown(path)} is too long for a file system", hint=_HINT)


def check_paths(paths: Iterable[str]) -> None:
    """Check every path, and that no two collide, as files or as file and folder, on any disk."""
    seen: dict[str, str] = {}
    for path in paths:
        check_path(path)
        other = seen.setdefault(path.casefold(), path)
        if other is not path:
            raise CorruptBlob(
                f"the paths {_shown(other)} and {_shown(path)} are the same file on some file systems", hint=_HINT
            )
    for folded, path in seen.items():
        above = folded
        while above := above.rpartition("/")[0]:
            if above in seen:
                raise CorruptBlob(f"the path {_shown(path)} conflicts with the file {_shown(seen[above])}", hint=_HINT)


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 80 else path[:80] + "…")
