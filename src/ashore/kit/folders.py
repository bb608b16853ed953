"""Creates directories, with an error that names the obstacle; and opens files that users name."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Final

from ashore.core.errors import EnvironmentFault, PermissionDenied

CHILD_FOLDERS: Final = "ASHORE_CHILD_FOLDERS"
"""Variable with the folders of `[jobs] folders` as JSON, for processes that act on requests."""

_IN_THE_WAY: Final = (errno.EEXIST, errno.ENOTDIR, errno.ELOOP)


class FolderBlocked(EnvironmentFault, OSError):
    """A directory cannot be created where it must be.

    Move the obstacle away. It is an `OSError` too, so that handlers of system errors catch it.
    """


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Create a directory and its missing parents. May be called twice; `mode` applies to the directory alone.

    Raises:
        FolderBlocked: a file or a broken link is in the place of the directory or a parent, or the disk is missing.
        OSError: any other system error.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except FileNotFoundError as fault:  # nothing is missing, or it would have been created
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
    """Return the error for a directory that cannot be created: the obstructing path, and its kind."""
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


def child_folders() -> Sequence[str]:
    """Return the directories that requests may name files in; none in a process that an operator runs."""
    told = json.loads(os.environ.get(CHILD_FOLDERS, "[]"))
    return [os.path.realpath(one) for one in told if not one.startswith("s3://")]


def open_given(path: Path) -> BufferedReader:
    """Open a file that a user named, or one in a directory that they named.

    In a process that acts on a request, a path in a directory of `[jobs] folders` must resolve into one, through every
    link. The open file is checked: a link that changes meanwhile has no effect.

    Raises:
        PermissionDenied: a link leads out of the folders.
        OSError: the file cannot be opened; or, in such a process, is a pipe or a device.
    """
    roots = child_folders()
    if not roots:
        return path.open("rb")
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")  # a pipe does not block
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if any(is_below(os.path.abspath(path), one) for one in roots):
        try:
            real = os.readlink(f"/proc/self/fd/{file.fileno()}")
            if not any(is_below(real, one) for one in roots):
                raise PermissionDenied(
                    f"{path} leads out of the folders that jobs may read",
                    hint="replace the link with a copy of the file",
                    resource=f"path/{path}",
                )
        except BaseException:
            file.close()
            raise
    return file


def is_below(path: str, folder: str) -> bool:
    """Return whether an absolute path is a directory or inside it. Links are not followed."""
    folder = folder.rstrip("/")
    return path == folder or path.startswith(folder + "/")
