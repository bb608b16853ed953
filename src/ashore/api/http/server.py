"""The HTTP server: granian's embedded one, on a listening socket of our own, in the event loop of the worker.

Our own socket, because granian's is bound with SO_REUSEPORT: a second server on the same port would start without an
error and take half of the connections.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

from ashore.errors import PortTaken
from ashore.serving import HttpListen, Limits

BACKLOG = 1024
MAX_HEADER_BYTES = 65_536
"""Request line and headers together; more is answered with 431 and the connection closed."""


def listen(where: HttpListen) -> socket.socket:
    """Return a listening socket.

    Raises:
        PortTaken: somebody else listens there, or the address is not one of this machine.
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
            hint="choose another one with --port" if fault.errno == errno.EADDRINUSE else "check the address",
        ) from fault
    return sock


def _listen_unix(path: Path) -> socket.socket:
    """Listen on a socket file with mode 0600. A file left behind by a dead server is replaced, a live one is not."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
        else:
            raise PortTaken(f"somebody listens on {path}", hint="stop the other server first")
        finally:
            probe.close()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError as fault:
        sock.close()
        raise PortTaken(f"cannot listen on {path}: {fault.strerror}", hint="check the folder") from fault
    finally:
        os.umask(mask)
    sock.listen(BACKLOG)
    return sock


class HttpServer:
    """Runs an ASGI application on a listening socket until `stop`."""

    def __init__(self, app: Any, sock: socket.socket, limits: Limits) -> None:
        from granian._granian import SocketHolder
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
        from granian.server.embed import Server

        make_holder: Any = SocketHolder  # its stub leaves the arguments out
        is_unix = sock.family == socket.AF_UNIX

        class _OnOurSocket(Server):
            _shd: Any

            def _init_shared_socket(self) -> None:
                self._ssp = None
                self._shd = make_holder(sock.detach(), is_unix, BACKLOG)

        self._server: Any = _OnOurSocket(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=limits.max_connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(limits.header_read_timeout_s * 1000),
                max_buffer_size=MAX_HEADER_BYTES,
            ),
            log_enabled=False,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to accept connections."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(), name="http server")

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Stop accepting, and give open connections a moment to end."""
        if self._task is None:
            return
        self._server.stop()
        await asyncio.wait({self._task}, timeout=timeout_s)
        if not self._task.done():
            self._task.cancel()
