"""Compares rendered files with those in a folder: new, changed, unchanged, or ours and no longer rendered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ashore.core.errors import InvalidRequest
from ashore.kit.folders import make_folder
from ashore.machine.deployment.forms.description import MADE

State = Literal["new", "changed", "same", "stale"]
OLDEST_HEAD_CHARS = 400
"""Where a file of ours says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One file."""

    path: str
    """Relative to the folder."""
    state: State
    before: str
    after: str

    @property
    def difference(self) -> str:
        """What a write would change, as a unified diff."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            f"a/{self.path}",
            f"b/{self.path}",
        )
        return "".join(lines)


def compare(files: Mapping[str, str], folder: Path) -> tuple[Compared, ...]:
    """Compare each file with the one in the folder. Files that others put there are left out.

    Raises:
        InvalidRequest: the folder is a file, or has a foreign file or a link where one of ours would be.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidRequest(f"{folder} is not a directory", hint="give --out a directory; it is created")
    found = []
    for path, after in sorted(files.items()):
        _refuse_links(folder, path)
        before = _text(folder / path)
        if before is not None and not _is_ours(path, before) and before != after:
            raise InvalidRequest(
                f"{folder / path} was not made by `ashore deploy render`", hint="give --out another directory"
            )
        state: State = "new" if before is None else "same" if before == after else "changed"
        found.append(Compared(path=path, state=state, before=before or "", after=after))
    for path in _others(folder, files):
        found.append(Compared(path=path, state="stale", before=_text(folder / path) or "", after=""))
    return tuple(found)


def write(compared: Iterable[Compared], folder: Path) -> None:
    """Make the folder match the rendered files: write new or changed ones, remove stale ones. May be called twice."""
    for one in compared:
        path = folder / one.path
        if one.state == "stale":
            path.unlink(missing_ok=True)
        elif one.state != "same":
            make_folder(path.parent)
            path.write_text(one.after, encoding="utf-8")
            if path.suffix == ".sh":
                path.chmod(0o755)


def _refuse_links(folder: Path, path: str) -> None:
    """Check that no component of a path below a folder is a link to elsewhere."""
    inner = Path(path)
    for one in (folder / inner, *(folder / parent for parent in inner.parents if parent != Path())):
        if one.is_symlink():
            raise InvalidRequest(
                f"{one} is a symbolic link; a rendered file would be written elsewhere", hint="remove it"
            )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        return "\0"


def _is_ours(path: str, text: str) -> bool:
    return MADE in text[:OLDEST_HEAD_CHARS] or (path.endswith("SHA256SUMS"))


def _others(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return the files of ours that are no longer rendered, in the folders that we render into."""
    folders = {str(Path(path).parent) for path in files}
    found = []
    for inner in sorted(folders):
        for path in sorted((folder / inner).glob("*")):
            name = str(path.relative_to(folder))
            if name not in files and path.is_file() and not path.is_symlink() and _is_ours(name, _text(path) or ""):
                found.append(name)
    return found
