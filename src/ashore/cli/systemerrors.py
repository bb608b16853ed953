"""Errors of the operating system, explained for the user: which file, its owner, what to do."""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ashore.core.errors import (
    AshoreError,
    DiskFull,
    EnvironmentFault,
    HomeNotOurs,
    InvalidRequest,
    MemoryFull,
    MissingExtra,
    NotFound,
)
from ashore.kit.extras import BESIDE_ENGINES, how_to_install

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_SUCH_FILE: Final = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO)
_BROKEN_OFF: Final = (errno.EIO, errno.ESTALE, errno.EBUSY, errno.EEXIST, errno.ENOTEMPTY, errno.EXDEV, errno.ENODEV)
_TOO_MANY: Final = (errno.EMFILE, errno.ENFILE)


@contextmanager
def system_errors() -> Iterator[None]:
    """Turn what the system refuses into an error that says who must act. Anything else passes."""
    try:
        yield
    except (BrokenPipeError, AshoreError):
        raise  # the reader closed our output on purpose; our own errors name who must act
    except ModuleNotFoundError as error:
        from ashore.data.engines import CARDS

        if error.name not in (*BESIDE_ENGINES, *(one for card in CARDS if card.extra == "cpu" for one in card.modules)):
            raise
        raise MissingExtra(f"this needs {error.name}, not installed here", hint=how_to_install("cpu")) from error
    except OSError as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise fault from error


def fault_of(error: OSError) -> AshoreError | None:
    """Return the error of ours for one of the system; None where only a mistake of ours gives such a one."""
    path = _path_of(error)
    what = f"{path}: {_said(error)}" if path else _said(error)
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__ in ("socket", "ssl"):
        return EnvironmentFault(f"the connection was lost: {_said(error)}", hint="check that the other side is running")
    match error.errno:
        case errno.ENOENT if not path and "temporary directory" in _said(error):  # of `tempfile`, on a full disk
            return DiskFull(f"no directory for temporary files: {what}", hint="free some space in /tmp, or set TMPDIR")
        case errno.ENOENT if path:
            return NotFound(f"{path} does not exist", hint="check the path")
        case errno.ENOMEM:
            return MemoryFull(f"there is not enough memory: {what}", hint="stop other programs, or add memory")
        case number if number in _NO_ROOM:
            return DiskFull(f"no room left on the disk: {what}", hint="free some space, then run the command again")
        case number if number in _NOT_ALLOWED:
            return _not_allowed(path, _said(error))
        case number if number in _NO_SUCH_FILE and path:
            return InvalidRequest(f"cannot use {what}", hint="check the path")
        case number if number in _TOO_MANY:
            return EnvironmentFault(f"too many open files: {what}", hint="raise the limit: ulimit -n 65536")
        case number if number in _BROKEN_OFF:
            return EnvironmentFault(
                f"the disk reported an error: {what}", hint="check the disk, then run the command again"
            )
    return None


def _not_allowed(path: str, said: str) -> AshoreError:
    home = _home()
    if home is not None and (not path or Path(path).is_relative_to(home) or home.is_relative_to(path)):
        if path and _is_missing(home):
            above = next(folder for folder in home.parents if folder.exists())
            return EnvironmentFault(
                f"cannot create the home {home}: the directory {above} is not writable for {_user(os.geteuid())}",
                hint="set ASHORE_HOME to a directory of your own",
            )
        owner = _owner(home)
        if owner is not None and owner != os.geteuid():
            return HomeNotOurs(
                f"the home {home} belongs to {_user(owner)}; you are {_user(os.geteuid())}",
                hint=f"run the command as its owner: sudo -u {_user(owner)} ASHORE_HOME={home} ashore …; "
                "or set ASHORE_HOME to a folder of your own",
            )
        return EnvironmentFault(
            f"cannot use the home {home}: {path or home}: {said}",
            hint="make it readable and writable by its owner, or set ASHORE_HOME to a folder of your own",
        )
    return EnvironmentFault(
        f"cannot use {path or 'a file'}: {said}",
        hint="choose a path that you can read and write, or ask its owner for access",
    )


def _home() -> Path | None:
    from ashore.kit.settings import read_settings

    try:
        return read_settings().home.root
    except AshoreError:
        return None  # the command reports the error in the settings


def _is_missing(place: Path) -> bool:
    """Return whether there is no such file; False if that cannot be checked."""
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _owner(place: Path) -> int | None:
    """Return the owner of a folder, or of the nearest readable parent."""
    for folder in (place, *place.parents):
        try:
            return folder.stat().st_uid
        except OSError:
            continue
    return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"


def _path_of(error: OSError) -> str:
    name = error.filename2 or error.filename
    text = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
    return text if len(text) <= 200 else text[:200] + "…"


def _said(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
