"""Hosts that the server of an ashore.toml calls: the ones that network policies must allow. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from ashore.core.addresses import split_url
from ashore.kit.egress import parse_allow
from ashore.kit.section import is_from_file
from ashore.machine.config import Spec
from ashore.machine.deployment.forms.leaves import Leaf, leaves_of
from ashore.machine.deployment.forms.places import PeerPlace, Places

PORTS: Final = {
    "http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "redis": 6379, "rediss": 6379,
    "redis+sentinel": 26379, "syslog+udp": 514, "syslog+tcp": 601,
}  # fmt: skip
HUBS: Final = {"hf": "huggingface.co", "ms": "modelscope.cn", "pypi": "pypi.org"}
INSIDE: Final = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One host that the server calls."""

    host: str
    port: int
    why: str
    """The place in ashore.toml that names it."""
    udp: bool = False
    network: str = ""
    """Addresses that it may have; empty: pods of `namespace` have them."""
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Named:
    host: str
    port: int
    why: str
    udp: bool = False


def peers_of(
    document: dict[str, Any], spec: Spec, places: Places
) -> tuple[tuple[Peer, ...], tuple[tuple[str, int], ...]]:
    """Return the hosts named in ashore.toml with their location from places.toml; and, with ports, those that it does
    not locate.
    """
    found: dict[tuple[str, int, bool], Peer] = {}
    absent: dict[str, int] = {}
    named = list(_named(document, spec, offline=places.server.offline))
    for one in named:
        said = [peer for peer in places.peers if peer.host == one.host and peer.port in (0, one.port or peer.port)]
        if not said and (own := _by_itself(one.host)) is not None:
            said = [own]
        if not said or not (one.port or said[0].port):
            absent[one.host] = one.port
        for peer in said:
            placed = _placed(peer, port=one.port or peer.port, why=one.why, udp=one.udp)
            found[placed.host, placed.port, placed.udp] = placed
    hosts = {one.host for one in named}
    for peer in places.peers:
        if peer.host not in hosts and peer.port:
            placed = _placed(peer, port=peer.port, why="places.toml", udp=False)
            found[placed.host, placed.port, placed.udp] = placed
    return tuple(found.values()), tuple(absent.items())


def _placed(peer: PeerPlace, *, port: int, why: str, udp: bool) -> Peer:
    return Peer(
        host=peer.host, port=port, why=why, udp=udp, network=peer.network, namespace=peer.namespace,
        labels=tuple(sorted(peer.labels.items())),
    )  # fmt: skip


def _by_itself(host: str) -> PeerPlace | None:
    """Return the location of a host whose name gives it: an address, or a Service `NAME.NAMESPACE.svc`."""
    try:
        address = ip_address(host)
    except ValueError:
        words = host.split(".")
        if len(words) >= 3 and words[2] == "svc":
            return PeerPlace(host=host, namespace=words[1])
        return None
    return PeerPlace(host=host, network=f"{host}/{address.max_prefixlen}")


def _named(document: dict[str, Any], spec: Spec, *, offline: bool) -> Iterator[_Named]:
    for leaf in leaves_of(document):
        if is_from_file(leaf.value):
            if leaf.key in ("url", "hf_endpoint", "ms_endpoint", "state_url"):
                yield _Named(leaf.name, 0, leaf.shown)
        elif isinstance(leaf.value, str) and leaf.path[0] != "privacy":
            yield from _in_address(leaf)
    for entry in parse_allow(spec.egress.allow):
        if entry.host not in INSIDE:
            yield _Named(entry.host, entry.port or 443, "[egress] allow")
    for machine in spec.edge.machines:
        host, _, port = machine.rpartition(":")
        yield _Named(host.strip("[]"), int(port), "[edge] machines")
    if not offline:
        for model in spec.models:
            hub = HUBS.get(model.name.partition(":")[0], "")
            if hub and ":" in model.name:
                yield _Named(hub, 443, "[[model]] name")


def _in_address(leaf: Leaf) -> Iterator[_Named]:
    text = str(leaf.value).removeprefix("transit:")
    if "://" not in text or leaf.key in ("issuer", "allow"):
        return
    parts = split_url(text.partition("\n")[0])
    if parts.scheme == "s3":
        yield _Named("s3", 443, leaf.shown)
    elif parts.scheme.partition("+")[0] in PORTS or parts.scheme in PORTS:
        usual = PORTS.get(parts.scheme) or PORTS[parts.scheme.partition("+")[0]]
        for place in parts.netloc.rpartition("@")[2].split(","):
            one = split_url(f"//{place}")
            if one.hostname and one.hostname not in INSIDE:
                yield _Named(one.hostname, one.port or usual, leaf.shown, parts.scheme == "syslog+udp")
