"""The one network that a new namespace may have. Standard library alone: it also runs where nothing is installed."""

from __future__ import annotations

import fcntl
import socket
import struct

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
"""netdevice(7)."""


def raise_loopback() -> None:
    """Bring `lo` up, which a new namespace has down, and make sure that there is nothing else."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    assert {name for _, name in socket.if_nameindex()} == {"lo"}
