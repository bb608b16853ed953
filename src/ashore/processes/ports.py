"""Whether a TCP port is free, and who has it otherwise."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from ashore.errors import InvalidSpec, PortTaken


def check_port(host: str, port: int, *, option: str) -> None:
    """Return when this process could listen on `host:port` now.

    Raises:
        PortTaken: another process listens there; it is named when the kernel lets us look.
        InvalidSpec: the address is none of this machine's, there is no such port, or it needs rights we lack.
    """
    if not 0 < port < 65_536:  # the resolver would take it modulo 65,536
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


def owner_of_port(port: int, *, proc: Path = Path("/proc")) -> str:
    """Return the process that listens on a TCP port, as `python3 (pid 123)`; empty where it cannot be found out."""
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
                        command = (folder / "comm").read_text().strip()
                        return f"{command} (pid {folder.name})"
    return ""


def _listening_inodes(port: int, proc: Path) -> set[str]:
    """The sockets that listen on `port`, as they look in `/proc/PID/fd`. Source: proc_net(5), state 0A is LISTEN."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            for line in (proc / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return inodes
