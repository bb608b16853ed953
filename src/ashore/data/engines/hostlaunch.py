"""Launch file of an engine host, and the command line that starts one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ashore.data.engines.model import EngineOptions, ModelFiles
from ashore.data.engines.prefixes import PrefixPlace
from ashore.kit.processes import python_command


class HostLaunch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One engine host: the model, the engine, its adapters."""

    files: ModelFiles
    options: EngineOptions
    prefixes: PrefixPlace | None = None
    """Where prefixes survive a restart; None: they do not."""
    adapters: dict[str, str] = {}
    """LoRA folders by the name that orders give; loaded before the host greets."""
    drain_s: float = 30.0
    """After SIGTERM or `Drain`, seconds that running sequences have to end."""
    step_timeout_s: float = 300.0
    """Longest that one step of the engine may take. The host of one that takes longer hangs, and stops beating."""


def why_file(socket_path: Path) -> Path:
    """Return the file in which the supervisor writes why it killed the host of a socket."""
    return socket_path.with_suffix(".why")


def host_command(socket_path: Path, launch_path: Path, *, control_fd: int | None = None) -> list[str]:
    """Return the command line of a host. Give `control_fd` (the read end of a pipe) to `Popen(pass_fds=...)` too."""
    command = python_command("ashore.data.engines.host", "--socket", str(socket_path), "--launch", str(launch_path))
    return command if control_fd is None else [*command, "--control-fd", str(control_fd)]
