"""Listening sockets of a worker. Never with SO_REUSEPORT: a second server on the same port would start without an error
and take half of the connections.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from ashore.core.errors import PortTaken
from ashore.data.path import HttpListen

BACKLOG = 1024


def listen(where: HttpListen) -> socket.socket:
    """Return a listening socket.

    Raises:
        PortTaken: another process listens there, or the address is not one of this machine.
    """
    if where.uds:
        return _listen_unix(Path(where.uds))
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((where.host, where.port))
        sock.listen(BACKLOG)
    except OSError as fault:
        sock.close()
        raise PortTaken(
            f"cannot listen on {where.host}:{where.port}: {fault.strerror}",
            hint="choose another port with --port"
            if fault.errno == errno.EADDRINUSE
            else "check that this machine has the address and that you may listen on the port",
        ) from fault
    return sock


def _listen_unix(path: Path) -> socket.socket:
    """Listen on a socket file with mode 0600. A file left by a dead server is replaced; one of a live server is not."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
        else:
            raise PortTaken(f"another server is listening on {path}", hint="stop that server first")
        finally:
            probe.close()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError as fault:
        sock.close()
        raise PortTaken(
            f"cannot listen on {path}: {fault.strerror}",
            hint="remove it: it is not a socket"
            if fault.errno == errno.EADDRINUSE
            else "check that the directory exists and is writable",
        ) from fault
    finally:
        os.umask(mask)
    sock.listen(BACKLOG)
    return sock
