"""Notifies the service manager that started us, with the part of sd_notify(3) that we need."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

_SOCKET: Final = "NOTIFY_SOCKET"


def is_managed(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether a service manager started this process and captures its output."""
    return bool((os.environ if environ is None else environ).get(_SOCKET, ""))


def tell_manager(*facts: str, environ: Mapping[str, str] | None = None) -> None:
    """Send facts such as `READY=1`, `STOPPING=1` and `STATUS=serving smollm2` in one message.

    Args:
        facts: Each an assignment in one line.
        environ: Where the address of the manager's socket is; default: the environment of this process.
    """
    address = (os.environ if environ is None else environ).get(_SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # an abstract one
        address = "\0" + address[1:]
    message = "\n".join(fact.replace("\n", " ") for fact in facts).encode()
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        sender.sendto(message, address)
