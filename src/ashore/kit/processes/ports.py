"""Whether TCP ports are free, and who has them otherwise."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from ashore.core.errors import InvalidSpec, PortTaken

Role = Literal["supervisor", "host", "api", "control", "jobs", "edge", "cache", "other"]

BY_MODULE: Final[tuple[tuple[str, Role], ...]] = (
    ("ashore.data.engines.host", "host"),
    ("ashore.data.worker", "api"),
    ("ashore.control", "control"),
    ("ashore.control.jobs.worker", "jobs"),
)
"""The modules that a supervisor starts, in the words of `python -m`."""
HOME_IN: Final = {"api": "--run", "edge": "-c"}
"""The option with a path in the run folder of the home, by the role of a process that listens."""


def role_of(words: Sequence[str]) -> tuple[Role, str]:
    """Return the role of a home's process, and what distinguishes it from others of its kind: the index of a worker,
    the program of any other process.
    """
    for module, role in BY_MODULE:
        if module in words:
            return role, words[words.index("--index") + 1] if role == "api" and "--index" in words[:-1] else ""
    program = Path(words[0]).name if words else ""
    if program.startswith("envoy") or "--disable-hot-restart" in words:
        return "edge", ""
    if program.startswith(("valkey", "redis-server")):
        return "cache", ""
    if "up" in words and any(word.endswith(("ashore", "ashore.cli.main")) for word in words[:4]):
        return "supervisor", ""
    return "other", program


def check_ports(*wanted: tuple[str, int, str]) -> None:
    """Check that this process could listen on all of these addresses now: host, port, and the option that sets it.

    Raises:
        PortTaken: some are in use; the message names all of them.
        InvalidSpec: as `check_port` does.
    """
    taken: list[tuple[str, PortTaken]] = []
    for host, port, option in wanted:
        try:
            check_port(host, port, option=option)
        except PortTaken as fault:
            taken.append((option, fault))
    if len(taken) == 1:
        raise taken[0][1]
    if taken:
        options = " and ".join(option for option, _ in taken)
        raise PortTaken(
            "; ".join(fault.message for _, fault in taken),
            hint=f"stop what listens there, or choose other ports with {options}",
        )


def check_port(host: str, port: int, *, option: str) -> None:
    """Check that this process could listen on `host:port` now.

    Raises:
        PortTaken: another process listens there; it is named when the kernel lets us look.
        InvalidSpec: the address is not one of this machine's, the port is invalid, or it needs missing rights.
    """
    if not 0 < port < 65_536:  # the resolver would reduce it modulo 65,536
        raise InvalidSpec(f"{option} is {port}; expected 1 to 65535", hint="name a free port")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except socket.gaierror as fault:
        raise InvalidSpec(
            f"{host!r} is not a valid address: {fault.strerror}", hint="use 127.0.0.1 or 0.0.0.0"
        ) from fault
    except PermissionError as fault:
        raise InvalidSpec(f"no permission to listen on {host}:{port}", hint=f"choose {option} above 1023") from fault
    except OSError as fault:
        if fault.errno == 99:
            raise InvalidSpec(f"{host} is not an address of this machine", hint="use 127.0.0.1 or 0.0.0.0") from fault
        owner = owner_of_port(port)
        raise PortTaken(
            f"{host}:{port} is already in use by {owner or 'another process'}",
            hint=f"stop it, or choose another port with {option}",
        ) from fault


def free_port() -> int:
    """Return a loopback port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@lru_cache(maxsize=256)
def is_own_address(address: str) -> bool:
    """Return whether an interface of this machine has an address: only then may a socket be bound to it."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except (ValueError, OSError):
        return False
    return True


def address_of_this_machine() -> str:
    """Return the address by which other machines reach this one, if known: that of the default route. Nothing is sent:
    192.0.2.1 and 2001:db8::1 are for documentation only (RFC 5737, RFC 3849).
    """
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            return str(probe.getsockname()[0])
    return ""


def owner_of_port(port: int, *, proc: Path = Path("/proc")) -> str:
    """Return the process that listens on a TCP port, as `python3 (pid 123)` or `ashore (pid 123, home /srv/ashore)`;
    empty if unknown.
    """
    inodes = _listening_inodes(port, proc)
    if not inodes:
        return ""
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        return _named(folder)
    return ""


def _named(folder: Path) -> str:
    """Return a process as text. A child of `ashore up` is shown as its supervisor, which is the one to stop."""
    words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    option = HOME_IN.get(role_of(words)[0], "")
    path = next((Path(after) for word, after in pairwise(words) if word == option), Path())
    for run in (path, *path.parents):
        if run.name == "run":
            supervisor = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            return f"ashore (pid {supervisor}, home {run.parent})"
    return f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"


def _listening_inodes(port: int, proc: Path) -> set[str]:
    """The sockets that listen on `port`, as shown in `/proc/PID/fd`. Source: proc_net(5), state 0A is LISTEN."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            for line in (proc / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return inodes
