"""Engine nodes, and the servers in front of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from ashore.control.fleet.section import FleetSection
from ashore.core.addresses import split_url
from ashore.core.errors import PermissionDenied
from ashore.kit.egress import check_url, entry_for, parse_allow

ALIVE_S: Final = 10
"""A server that has not reported for so long is taken for dead. It reports every `BEAT_S`."""
BEAT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One engine server of one model, as an operator entered it. Whether it is alive is not stored here."""

    node: str
    alias: str
    url: str
    drains: bool = False
    joined_s: int = 0
    """0: it stands in ashore.toml."""


def nodes_of(section: FleetSection, joined: Iterable[Node]) -> tuple[Node, ...]:
    """Return the nodes of ashore.toml, then those that joined, with their state.

    A row without a join only records whether a node of ashore.toml drains; it is ignored once ashore.toml no longer
    names the node.
    """
    rows = {(one.alias, one.url): one for one in joined}
    told = {}
    for one in section.nodes:
        key = one.model, one.address.rstrip("/")
        told[key] = Node(node=one.node, alias=key[0], url=key[1], drains=key in rows and rows[key].drains)
    return (*told.values(), *(one for key, one in rows.items() if one.joined_s and key not in told))


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A node's health as one server in front of it sees it."""

    alias: str
    url: str
    state: Literal["new", "ready", "out", "draining"]
    reason: str = ""
    running: int = 0
    kind: str = ""
    outside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A server that shares this state, as it last reported."""

    name: str
    address: str
    seen_s: int
    """By the clock of the database."""
    views: tuple[View, ...] = ()


def leaves_to(url: str, *, outside: bool, hidden: Iterable[str]) -> str:
    """Return where the prompts of a server go that leave this machine, and what is hidden in them first; empty: they
    stay."""
    host = split_url(url).hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return ""
    masked = ", ".join(hidden) or "nothing"
    return f"{host}{', outside of your networks' if outside else ''}; masked: {masked}"


def entry_of(url: str, section: FleetSection, *, allow: Sequence[str]) -> str:
    """Return the entry of `[egress] allow` for the address of a node, and nothing else.

    An address may join if it is in one of the networks, a name if the operator allowed it. This includes this machine's
    own addresses: the right to join nodes must not give access to loopback services.

    Raises:
        PermissionDenied: ashore may not call it.
    """
    host = split_url(url).hostname or ""
    within = [f"[{host}]@{text}" if ":" in host else f"{host}@{text}" for text in section.networks_of(host)]
    try:
        return entry_for(check_url(url, parse_allow([*within, *allow])))
    except PermissionDenied as fault:
        raise PermissionDenied(
            f"{url} may not join: {fault.message}",
            hint="the operator lists its network in [fleet] networks, or its name in [egress] allow",
        ) from fault
