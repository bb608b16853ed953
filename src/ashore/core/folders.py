"""Making folders, with a refusal that says what stands where a folder must be."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from ashore.errors import EnvironmentFault

_IN_THE_WAY: Final = (errno.EEXIST, errno.ENOTDIR, errno.ELOOP)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder, and those above it that are missing. May be called twice; `mode` holds for the folder alone.

    Raises:
        EnvironmentFault: a file or a broken link stands where the folder, or one above it, must be.
        OSError: anything else that the system refuses.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as fault:
        if fault.errno not in _IN_THE_WAY:
            raise
        raise blocked_folder(folder) from fault


def blocked_folder(folder: Path) -> EnvironmentFault:
    """Return what to raise for a folder that cannot be made: which path is in its way, and what that is."""
    place = next((one for one in (folder, *folder.parents) if one.is_symlink() or one.exists()), folder)
    if place.is_symlink() and not place.exists():
        what, remedy = f"a symbolic link to {place.readlink()}, which does not exist", "make its target, or remove it"
    else:
        what, remedy = "a file" if place.is_file() else "not a directory", "move it away, or name another folder"
    where = "a directory is expected there" if place == folder else f"the directory {folder} cannot be made below it"
    return EnvironmentFault(f"{place} is {what}; {where}", hint=remedy)
