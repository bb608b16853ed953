"""Where the published tree is read and written: a directory, which may be a stick."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ashore.control.sites.ports import Absent, Away, Tree, WrongBytes
from ashore.core.errors import InvalidRequest
from ashore.kit.folders import make_folder
from ashore.kit.wholefile import write_whole

PIECE_BYTES: Final = 1 << 20
_PATH: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", re.ASCII)


def checked_path(path: str) -> str:
    """Return a path of the tree.

    Raises:
        InvalidRequest: it leads out of the tree, or has characters that no file of a tree has.
    """
    if len(path) > 400 or _PATH.fullmatch(path) is None:
        raise InvalidRequest(f"{path[:200]!r} is not a path of a published tree")
    return path


class FolderLink:
    """A tree in a directory."""

    def __init__(self, folder: Path) -> None:
        """Create it; touches nothing."""
        self.folder: Final = folder

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        try:
            with (self.folder / checked_path(path)).open("rb") as file:
                if file.seek(0, 2) > limit:
                    raise WrongBytes(f"{self.folder / path} is longer than {limit:,} bytes")
                file.seek(start)
                while piece := file.read(PIECE_BYTES):
                    yield piece
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as fault:
            if not self.folder.is_dir():
                raise Away(f"{self.folder} is not there", hint="mount it, or put the stick in") from fault
            raise Absent(f"{self.folder} has no {path}") from fault
        except OSError as fault:
            raise Away(f"{self.folder / path} cannot be read: {fault.strerror}") from fault

    def put(self, path: str, body: bytes) -> None:
        file = self.folder / checked_path(path)
        try:
            make_folder(file.parent, mode=0o755)
            write_whole(file, body, mode=0o644)
        except OSError as fault:
            raise Away(f"{file} cannot be written: {fault.strerror}") from fault

    def has(self, path: str) -> bool:
        return (self.folder / checked_path(path)).is_file()

    def names(self, under: str) -> Iterator[tuple[str, int]]:
        for file in (self.folder / checked_path(under)).rglob("*"):
            if file.is_file() and not file.name.startswith("."):
                yield file.relative_to(self.folder).as_posix(), file.stat().st_size

    def remove(self, path: str) -> None:
        (self.folder / checked_path(path)).unlink(missing_ok=True)


def tree_of(publish: str, folder: Path) -> Tree:
    """Return the tree that a centre publishes to.

    Args:
        publish: As `[sites] publish` says it.
        folder: `sites/` in the home, which has the tree where the centre itself serves it.
    """
    if publish.startswith("folder:"):
        return FolderLink(Path(publish.removeprefix("folder:")))
    return FolderLink(folder / "tree")
