"""Which listener of this machine refused connections: `ListenOverflows` counts those of every program together.

The kernel keeps for each listening socket how many connections it dropped. Source: sock_diag(7), `inet_diag_msg` and
`INET_DIAG_SKMEMINFO` of linux/inet_diag.h; tcp_listendrop() of the kernel counts in both places.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FAMILY: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE: Final = (2, 3)  # NLMSG_ERROR, NLMSG_DONE
_LISTEN: Final = 1 << 10  # TCP_LISTEN
_MEMORY: Final = 7  # INET_DIAG_SKMEMINFO
_DROPS: Final = 8  # SK_MEMINFO_DROPS
_HEAD: Final = struct.Struct("=IHHII")  # nlmsghdr
_ASKED: Final = struct.Struct("=BBBxI48x")  # inet_diag_req_v2
_FOUND: Final = struct.Struct("=4xH46xIIIII")  # inet_diag_msg: port, then the five figures at its end
_ATTRIBUTE: Final = struct.Struct("=HH")
WAIT_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One listening TCP socket."""

    inode: int
    port: int
    waiting: int
    """Connections that nobody has taken yet."""
    longest: int
    """Most of them that it holds."""
    dropped: int
    """Connections, since it listens."""


def listeners() -> list[Listener]:
    """Return the listening TCP sockets of this network namespace.

    Raises:
        OSError: the kernel does not tell.
    """
    found: list[Listener] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _FAMILY) as link:
        link.settimeout(WAIT_S)
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _ASKED.pack(family, socket.IPPROTO_TCP, 1 << (_MEMORY - 1), _LISTEN)
            link.send(_HEAD.pack(_HEAD.size + len(body), _BY_FAMILY, _DUMP, family, 0) + body)
            found += _answers(link)
    return found


def _answers(link: socket.socket) -> Iterator[Listener]:
    while True:
        data = link.recv(1 << 16)
        at = 0
        while at + _HEAD.size <= len(data):
            size, kind, *_ = _HEAD.unpack_from(data, at)
            if kind in _DONE or size < _HEAD.size:
                return
            yield _listener(data[at + _HEAD.size : at + size])
            at += (size + 3) & ~3


def _listener(data: bytes) -> Listener:
    port, _, waiting, longest, _, inode = _FOUND.unpack_from(data)
    dropped, at = 0, _FOUND.size
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        if kind == _MEMORY and size >= _ATTRIBUTE.size + 4 * (_DROPS + 1):
            (dropped,) = struct.unpack_from("=I", data, at + _ATTRIBUTE.size + 4 * _DROPS)
        at += (size + 3) & ~3
    return Listener(inode=inode, port=socket.ntohs(port), waiting=waiting, longest=longest, dropped=dropped)


def count(root: Path, pids: Iterable[int]) -> Iterator[tuple[str, float]]:
    """Yield how many connections each listener of these processes dropped; nothing where the kernel does not tell."""
    with suppress(OSError):
        told = {one.inode: one for one in listeners()}
        for inode in {inode for pid in pids for inode in sockets_of(root, pid)} & told.keys():
            yield f"listener.{told[inode].port}.{inode}", told[inode].dropped
        yield "listeners.told", 1.0


def sockets_of(root: Path, pid: int) -> Iterator[int]:
    """Yield the inodes of the sockets that a process has open."""
    folder = root / "proc" / str(pid) / "fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                target = os.readlink(folder / name)
                if target.startswith("socket:["):
                    yield int(target[8:-1])
