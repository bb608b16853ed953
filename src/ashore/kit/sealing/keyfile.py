"""Secret files: read only if no other user can read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidSpec, SealingKeyMissing

MAX_BYTES: Final = 1 << 20


def read_secret_file(path: Path, *, what: str, renew: str = "ashore model rekey") -> bytes:
    """Return the content of a file that holds a secret.

    Links are followed, because that is how secrets are mounted; what counts is the file that they lead to.

    Args:
        path: The file.
        what: Names the file in errors.
        renew: How to renew the secret if others had access to it.

    Raises:
        SealingKeyMissing: it is not there, or cannot be read.
        InvalidSpec: others may read it, it belongs to another user, or it is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SealingKeyMissing(
            f"{what} {path}: {os.strerror(error.errno or 0)}",
            hint="restore the file; without it, data sealed with its keys cannot be opened",
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidSpec(f"{what} {path} is not a regular file", hint="give a regular file")
        if found.st_uid not in (os.geteuid(), 0):
            raise InvalidSpec(
                f"{what} {path} belongs to user {found.st_uid}; expected {os.geteuid()} or root",
                hint=f"chown {os.geteuid()} {path}",
            )
        if not is_ours_alone(found.st_mode, found.st_uid, found.st_gid, uid=os.geteuid(), gid=os.getegid()):
            raise InvalidSpec(
                f"{what} {path} has mode {stat.S_IMODE(found.st_mode):04o}: other users can read it; expected 0600",
                hint=f"chmod 600 {path}; if others had access, renew its keys: {renew}",
            )
        return os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)


def is_ours_alone(mode: int, owner: int, group: int, *, uid: int, gid: int) -> bool:
    """Return whether only user `uid` and root can read or change a file.

    Our own group may read what belongs to root: Kubernetes mounts Secrets this way for a pod with `fsGroup`.
    """
    is_mounted = owner == 0 != uid and group == gid
    return not mode & (0o037 if is_mounted else 0o077)
