"""Making folders, with a refusal that says what stands where a folder must be."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from ashore.errors import EnvironmentFault

_IN_THE_WAY: Final = (errno.EEXIST, errno.ENOTDIR, errno.ELOOP)


class FolderBlocked(EnvironmentFault, OSError):
    """A directory cannot be created where it must be.

    Move away what is in its place. It is an `OSError` too, so that handlers of errors of the system catch it.
    """


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder, and those above it that are missing. May be called twice; `mode` holds for the folder alone.

    Raises:
        FolderBlocked: a file or a broken link stands where the folder, or one above it, must be, or there is no
            disk behind it.
        OSError: anything else that the system refuses.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except FileNotFoundError as fault:  # nothing is missing, or it would have been made
        raise _blocked(
            f"{folder} cannot be created: {folder.parent} accepts no directories",
            errno.ENOENT,
            hint="name a directory on a writable disk",
        ) from fault
    except OSError as fault:
        if fault.errno not in _IN_THE_WAY:
            raise
        raise blocked_folder(folder, fault.errno) from fault


def blocked_folder(folder: Path, number: int = errno.EEXIST) -> FolderBlocked:
    """Return what to raise for a folder that cannot be made: which path is in its way, and what that is."""
    place = next((one for one in (folder, *folder.parents) if one.is_symlink() or one.exists()), folder)
    if place.is_symlink() and not place.exists():
        what, remedy = (
            f"a symbolic link to {place.readlink()}, which does not exist",
            "create its target, or remove the link",
        )
    else:
        what, remedy = "a file" if place.is_file() else "not a directory", "move it away, or name another directory"
    where = "expected a directory" if place == folder else f"the directory {folder} cannot be created below it"
    return _blocked(f"{place} is {what}; {where}", number, hint=remedy)


def _blocked(message: str, number: int, *, hint: str) -> FolderBlocked:
    fault = FolderBlocked(message, hint=hint)
    fault.errno, fault.strerror = number, message
    return fault
