"""Engine nodes, and the servers in front of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from ashore.core import check_url, entry_for, parse_allow
from ashore.errors import PermissionDenied

ALIVE_S: Final = 10
"""A server that has not reported for so long is taken for dead. It reports every `BEAT_S`."""
BEAT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One engine server that serves one model, as an operator entered it. Whether it is alive is not said here."""

    node: str
    alias: str
    url: str
    drains: bool = False
    joined_s: int = 0


class View(msgspec.Struct, frozen=True, kw_only=True):
    """How a node does, as one server in front of it sees it."""

    alias: str
    url: str
    state: Literal["new", "ready", "out", "draining"]
    reason: str = ""
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A server that shares this state, as it last reported."""

    name: str
    address: str
    seen_s: int
    """By the clock of the database."""
    views: tuple[View, ...] = ()


def entry_of(url: str, *, networks: Sequence[str], allow: Sequence[str]) -> str:
    """Return the entry of `[egress] allow` that allows the address of a node, and nothing else.

    An address may join if it is in one of the networks, a name if the operator allowed it. This machine's own
    addresses are no exception: who may let nodes join must not reach what listens on loopback.

    Raises:
        PermissionDenied: ashore may not call it.
    """
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        within: list[str] = []
    else:
        shown = f"[{host}]" if address.version == 6 else host
        within = [f"{shown}@{text}" for text in networks if address in ipaddress.ip_network(text)]
    try:
        return entry_for(check_url(url, parse_allow([*within, *allow])))
    except PermissionDenied as fault:
        raise PermissionDenied(
            f"{url} may not join: {fault.message}",
            hint="the operator lists its network in [fleet] networks, or its name in [egress] allow",
        ) from fault
