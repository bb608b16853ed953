"""Addresses of unix sockets, also for paths longer than the kernel's 107 bytes: a home may be deep in a tree."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ashore.kit.wholefile import opened

_LONGEST_ADDRESS_BYTES: Final = 107
"""`sun_path` of Linux, without its closing zero (unix(7))."""


@contextmanager
def unix_address(path: Path) -> Iterator[str]:
    """Yield an address for `path` that fits, valid in the context: a long one goes through its folder's descriptor in
    /proc.
    """
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS_BYTES:
        yield str(path)
        return
    with opened(path.parent, os.O_PATH | os.O_DIRECTORY) as folder:
        yield f"/proc/self/fd/{folder}/{path.name}"


def listen_on(path: Path, *, backlog: int = 128) -> socket.socket:
    """Return a non-blocking listening socket at `path`, for this user only. Replaces a socket left by a dead host.

    Raises:
        OSError: the folder is missing or not ours.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with unix_address(path) as address:
        before = os.umask(0o177)
        try:
            listener.bind(address)
        finally:
            os.umask(before)
    listener.listen(backlog)
    listener.setblocking(False)
    return listener
