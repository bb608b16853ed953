"""The supervisor's control socket: one request per connection, answers as lines of JSON, for the home's owner only."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.core.errors import NotReady, RemoteRefused
from ashore.kit.wholefile import opened

if TYPE_CHECKING:
    from ashore.kit.processes.supervisor import Supervisor

_LONGEST_ADDRESS_BYTES: Final = 107
"""`sun_path` of Linux, without its closing zero (unix(7))."""
MAX_QUESTION_BYTES: Final = 4 << 20
CALL_TIMEOUT_S: Final = 600.0
"""Longest silence between two lines of an answer: a model may have to load."""


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


class Caller:
    """A connected requester; receives lines until `close`. If it has disconnected, lines are dropped without
    waiting.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def tell(self, message: Mapping[str, object]) -> None:
        with suppress(OSError):
            self._connection.send(json.dumps(message).encode() + b"\n", socket.MSG_DONTWAIT)

    def close(self) -> None:
        """End the answer. May be called twice."""
        self._connection.close()


class ControlServer:
    """Listens on a unix socket inside the supervisor's loop."""

    def __init__(
        self, path: Path, supervisor: Supervisor, answer: Callable[[Mapping[str, object], Caller], None]
    ) -> None:
        """Listen on `path` (0600; replaces an older socket) and pass each request to `answer`."""
        self._path = path
        self._supervisor = supervisor
        self._answer = answer
        self._listener = listen_on(path, backlog=4)
        supervisor.watch("control socket", self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening."""
        self._supervisor.unwatch(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            pending = bytearray()
            self._supervisor.watch("a question", connection.fileno(), lambda: self._read(connection, pending))

    def _read(self, connection: socket.socket, pending: bytearray) -> None:
        try:
            piece = connection.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        pending += piece
        if piece and b"\n" not in pending and len(pending) <= MAX_QUESTION_BYTES:
            return
        self._supervisor.unwatch(connection.fileno())
        caller = Caller(connection)
        try:
            question = json.loads(pending.partition(b"\n")[0])
            if not isinstance(question, dict):
                raise ValueError("not an object")
        except ValueError as fault:
            caller.tell({"error": f"the request is not JSON: {fault}", "done": True})
            caller.close()
            return
        self._answer(question, caller)


def ask(
    path: Path, question: Mapping[str, object], *, timeout_s: float = CALL_TIMEOUT_S
) -> Iterator[dict[str, object]]:
    """Ask the supervisor behind `path` and yield the lines of its answer; the last one has `done`.

    `timeout_s`: longest wait for a line; then `TimeoutError`.

    Raises:
        NotReady: nothing listens there.
        PermissionError: it belongs to another user.
        RemoteRefused: the answer broke off.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with unix_address(path) as address:
                connection.connect(address)
        except PermissionError as fault:
            raise PermissionError(fault.errno, fault.strerror, str(path)) from None  # connect does not name the file
        except OSError as fault:
            raise NotReady(f"no `ashore up` is listening on {path}", hint="start it with `ashore up`") from fault
        connection.sendall(json.dumps(question).encode() + b"\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                yield message
                if message.get("done"):
                    return
    raise RemoteRefused("`ashore up` ended before its answer was complete", hint="check its output")
