"""Outgoing connections: allowed hosts, and the addresses that their names may resolve to.

A name that an outsider controls must not lead to internal addresses. So a name is resolved once, every address is
checked, and the connection uses a checked address: a second DNS answer changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ashore.core.errors import InvalidSpec, PermissionDenied

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that a translator calls."""

CHILD_EGRESS: Final = "ASHORE_CHILD_EGRESS"
"""Variable with `[egress] allow` as JSON, for processes that act on requests."""

PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443, "ldap": 389, "ldaps": 636}
"""Where servers of each kind listen unless the address says otherwise."""
WEB: Final = ("http", "https")

MAX_URL_CHARS: Final = 8192
"""Signed addresses of object stores, which hubs redirect to, have some 2,000."""

LOOPBACK: Final = ("localhost@127.0.0.0/8", "127.0.0.1@127.0.0.0/8", "[::1]")
"""Entries for what does not leave the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """One entry of `[egress] allow`: `HOST`, `HOST:PORT`, or either with `@NETWORK`."""

    host: str
    """In small letters; `*.` at its start stands for one or more labels."""
    port: int | None
    network: Network | None
    """Where the host may lie; None: anywhere that is reachable from the whole world."""
    anywhere: bool = False
    """It may lie at any address: the operator named the server itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A checked address."""

    scheme: str
    host: str
    port: int
    path: str
    """With its query."""
    network: Network | None
    literal: bool
    """The operator named the address itself, so there is nothing to resolve."""
    anywhere: bool = False
    """Each address is allowed."""

    @property
    def authority(self) -> str:
        """Value of the `host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse_allow(entries: Sequence[str]) -> tuple[Allowed, ...]:
    """Return the entries of `[egress] allow`.

    Raises:
        InvalidSpec: one is malformed.
    """
    return tuple(_parse(entry) for entry in entries)


def child_egress() -> tuple[Allowed, ...] | None:
    """Return the hosts that this process may call; None: any, because it does not act on requests."""
    told = os.environ.get(CHILD_EGRESS)
    return None if told is None else parse_allow(json.loads(told))


def check_url(url: str, allow: Sequence[Allowed], *, schemes: Sequence[str] = WEB) -> Target:
    """Return the parts of `url` if it may be called.

    Raises:
        PermissionDenied: it is not a plain address of one of the schemes, or its host is not allowed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as fault:
        raise PermissionDenied(f"{url[:100]!r} is not a valid URL: {fault}") from fault
    host = (parts.hostname or "").rstrip(".").lower()
    plain = parts.scheme in schemes and host and not (parts.username or parts.fragment)
    if not plain or len(url) > MAX_URL_CHARS:
        raise PermissionDenied(
            f"{url[:100]!r} is not a plain {' or '.join(schemes)} URL",
            hint="write SCHEME://HOST/PATH, without user or fragment",
        )
    if any(ord(char) <= 32 or ord(char) >= 127 for char in url):
        raise PermissionDenied(
            "the URL contains spaces, control characters or non-ASCII characters", hint="percent-encode them"
        )
    port = port or PORTS[parts.scheme]
    for one in allow:
        if _matches(one.host, host) and one.port in (None, port):
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return Target(
                scheme=parts.scheme,
                host=host,
                port=port,
                path=path,
                network=one.network,
                literal=_is_address(host),
                anywhere=one.anywhere,
            )
    raise PermissionDenied(
        f"[egress] does not allow {host}:{port}", hint="ask the operator to add it to [egress] allow"
    )


def server_of(url: str) -> Allowed:
    """Return the entry for a server that the operator named by its address.

    Raises:
        InvalidSpec: it is not an http or https address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSpec(f"{url!r} is not the address of a server", hint="use https://HOST")
    return Allowed(host=parts.hostname.rstrip("."), port=parts.port, network=None, anywhere=True)


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


def entry_for(target: Target) -> str:
    """Return the entry of `[egress] allow` that allows exactly a checked address."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}" + (f"@{target.network}" if target.network is not None else "")


def is_inside(entry: str) -> bool:
    """Return whether an entry of `[egress] allow` holds its host to networks that are not part of the internet: this
    machine, or private ones. A name without a network may lie anywhere."""
    one = _parse(entry)
    if one.network is not None:
        return one.network.is_private
    return one.host == "localhost" or (_is_address(one.host) and not _reachable_by_all(ipaddress.ip_address(one.host)))


def check_addresses(target: Target, addresses: Sequence[str]) -> str:
    """Return the address to connect to. A single forbidden address rejects the name.

    Raises:
        PermissionDenied: the name resolves to a forbidden address.
    """
    for text in addresses:
        inner = _inner(ipaddress.ip_address(text.partition("%")[0]))
        if target.network is not None:
            allowed = inner.version == target.network.version and inner in target.network
        else:
            allowed = target.literal or target.anywhere or _reachable_by_all(inner)
        if not allowed:
            raise PermissionDenied(
                f"{target.host} resolves to {text}, which [egress] does not allow",
                hint=f'if that is intended, add "{target.host}@NETWORK" to [egress] allow',
            )
    if not addresses:
        raise PermissionDenied(f"{target.host} has no address")
    return addresses[0]


def _inner(address: Address) -> Address:
    """Return the IPv4 address embedded in an IPv6 one, if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def _reachable_by_all(address: Address) -> bool:
    """Return whether an address is globally reachable. Reserved ones (`::10.0.0.1`, `fec0::1`) are not."""
    inside = address.is_multicast or address.is_reserved or getattr(address, "is_site_local", False)
    return address.is_global and not inside


def _parse(entry: str) -> Allowed:
    name, _, network = entry.strip().lower().partition("@")
    try:
        parts = urlsplit(f"//{name}")
        host, port = parts.hostname or "", parts.port
        inside = ipaddress.ip_network(network) if network else None
    except ValueError as fault:
        raise InvalidSpec(
            f"[egress] allow has {entry!r}: {fault}", hint='use "host", "host:443" or "host@10.0.0.0/8"'
        ) from (fault)
    bare = host.removeprefix("*.")
    if not bare or "*" in bare or parts.path or parts.username or "." not in bare + "." or host == "*":
        raise InvalidSpec(
            f"[egress] allow has {entry!r}", hint='use "host", "host:443", "*.example.com" or "host@10.0.0.0/8"'
        )
    return Allowed(host=host, port=port, network=inside)


def _matches(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
