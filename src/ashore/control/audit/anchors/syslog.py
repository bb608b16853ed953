"""Syslog (RFC 5424) over UDP, TCP or a unix socket. Write-only; the receiver stores a file that can be read."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from ashore.core.errors import InvalidRequest, SourceUnreachable
from ashore.core.foreign import foreign_errors

PRIORITY: Final = 13 * 8 + 5
"""Facility 13, log audit; severity 5, notice."""
TIMEOUT_S: Final = 5.0


class SyslogAnchor:
    """Sends each checkpoint as one message."""

    def __init__(self, place: str) -> None:
        """Take `syslog+udp://HOST:PORT`, `syslog+tcp://HOST:PORT` or `syslog+unix:///PATH`.

        Raises:
            InvalidRequest: it is none of these.
        """
        parts = urlsplit(place)
        self._place, self._kind = place, parts.scheme.removeprefix("syslog+")
        with foreign_errors(f"{place!r} has no port", InvalidRequest, hint="syslog+tcp://10.0.0.9:6514"):
            self._host, self._port, self._path = parts.hostname or "", parts.port or 514, parts.path
        if self._kind not in ("udp", "tcp", "unix") or not (self._path if self._kind == "unix" else self._host):
            raise InvalidRequest(
                f"{place!r} is malformed", hint="use syslog+tcp://10.0.0.9:6514 or syslog+unix:///dev/log"
            )

    @property
    def place(self) -> str:
        return self._place

    def put(self, number: int, line: bytes) -> None:
        """Send it. UDP and unix sockets do not confirm delivery; TCP confirms that the other machine has it."""
        try:
            self._send(message(line))
        except OSError as fault:
            raise SourceUnreachable(
                f"the anchor {self._place} did not accept a checkpoint: {fault.strerror or fault}",
                hint="check that the syslog server is running",
            ) from fault

    def read(self) -> Iterator[bytes]:
        raise InvalidRequest(
            f"the anchor {self._place} can be written, but not read",
            hint="give the log file of the syslog server: --anchor FILE",
        )

    def _send(self, data: bytes) -> None:
        if self._kind == "tcp":
            with socket.create_connection((self._host, self._port), timeout=TIMEOUT_S) as stream:
                stream.sendall(b"%d %s" % (len(data), data))  # octet counting, RFC 6587 section 3.4.1
                stream.shutdown(socket.SHUT_WR)
                stream.recv(1)  # the other side closes when it has read all
            return
        family = socket.AF_UNIX
        where: str | tuple[str, int] = self._path
        if self._kind == "udp":
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            family, where = found[0], found[4][:2]  # type: ignore[assignment]
        with socket.socket(family, socket.SOCK_DGRAM) as datagram:
            datagram.settimeout(TIMEOUT_S)
            datagram.sendto(data, where)


def message(line: bytes) -> bytes:
    """Return an RFC 5424 message with a checkpoint, which has no newline and no control characters."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = f"<{PRIORITY}>1 {now} {socket.gethostname() or '-'} ashore-audit {os.getpid()} checkpoint - "
    return head.encode("ascii", "replace") + line
