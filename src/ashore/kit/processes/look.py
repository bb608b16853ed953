"""A plain GET to a unix socket or a port: the supervisor's probe of its home's servers."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from pathlib import Path

from ashore.kit.processes.control import unix_address


class UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 to a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with unix_address(self._path) as address:
            self.sock.connect(address)


def connection_to(where: Path | tuple[str, int], timeout_s: float) -> http.client.HTTPConnection:
    """Return an unopened connection. A server that listens on every address is called at the local one."""
    if isinstance(where, Path):
        return UnixConnection(where, timeout_s)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where[0], where[0])
    return http.client.HTTPConnection(host, where[1], timeout=timeout_s)


def get_from(
    where: Path | tuple[str, int], target: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 1.0
) -> bytes | None:
    """Return the body of a 200 answer; None for any other answer or a timeout."""
    connection = connection_to(where, timeout_s)
    try:
        connection.request("GET", target, headers=dict(headers or {}))
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
