"""Origin of a request: the peer of the connection, or, behind an edge, the client that the edge reports."""

from __future__ import annotations

from typing import Final

MAX_CHARS: Final = 64


def origin_of(peer: str, forwarded: str, *, trusted_proxies: int) -> str:
    """Return the address of the client; empty for this machine itself.

    Args:
        peer: Address of the peer; empty or a path on a unix socket, which only the edge and the owner of the home can
            reach.
        forwarded: `x-forwarded-for`. The edge appends the address that it saw; before it stand the addresses from
            proxies in front of the edge, and before those anything that the client invented.
        trusted_proxies: Number of trusted proxies in front of the edge.
    """
    if peer and not peer.startswith(("/", "unix:")):
        return peer[:MAX_CHARS]
    if "," not in forwarded:
        return forwarded.strip()[:MAX_CHARS]
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    if not hops:
        return ""
    return hops[-min(len(hops), trusted_proxies + 1)][:MAX_CHARS]


class Origins:
    """Determines the origin of requests. HTTP and gRPC of a worker share one, so that a reload reaches both."""

    def __init__(self, trusted_proxies: int = 0) -> None:
        self.trusted_proxies = trusted_proxies
        """Number of trusted proxies in front of the edge."""


def grpc_peer(peer: str) -> str:
    """Return the address in a gRPC peer: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`, `unix:/path`."""
    kind, _, rest = peer.partition(":")
    if kind == "ipv4":
        return rest.rpartition(":")[0]
    if kind == "ipv6":
        return rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0].strip("[]")
    return ""
