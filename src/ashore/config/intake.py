"""`[http]`, `[grpc]` and `[admission]`: where requests come in, and how many are taken."""

from __future__ import annotations

from dataclasses import dataclass

from ashore.config.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSpec:
    """`[grpc]`: where to listen. Port 0 switches it off."""

    host: str = "127.0.0.1"
    port: int = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSpec:
    """`[http]`: where to listen when no edge stands in front, and how many API workers answer."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    """More than one needs an edge, which spreads the requests."""
    connections_per_address: int = 1024
    """Connections of one address to a worker with no edge in front; 0: no bound. A proxy or a NAT is one address."""
    bodies_bytes: int = 0
    """Bodies of requests that one worker holds at once; 0: its share of an eighth of the memory."""
    tenant_bodies_bytes: int = 0
    """Of them, those of one tenant; 0: half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSpec:
    """`[admission]`: when a request is refused at once instead of waiting."""

    max_waiting: int = 256
    max_tokens_in_flight: int = 0
    """Prompt and answer tokens of admitted requests; 0: what the KV caches hold."""
    default_deadline_s: float = 120.0


def read_http(table: Table) -> HttpSpec:
    """Return `[http]`."""
    default = HttpSpec()
    table.known(*HttpSpec.__dataclass_fields__)
    return HttpSpec(
        host=table.get("host", str, default.host),
        port=table.number("port", default.port, lowest=1, highest=65_535),
        workers=table.number("workers", default.workers, lowest=1, highest=64),
        connections_per_address=table.number("connections_per_address", default.connections_per_address, lowest=0),
        bodies_bytes=table.number("bodies_bytes", default.bodies_bytes, lowest=0),
        tenant_bodies_bytes=table.number("tenant_bodies_bytes", default.tenant_bodies_bytes, lowest=0),
    )


def read_grpc(table: Table) -> ListenSpec:
    """Return `[grpc]`."""
    table.known("host", "port")
    return ListenSpec(
        host=table.get("host", str, "127.0.0.1"),
        port=table.number("port", 8081, lowest=0, highest=65_535),
    )


def read_admission(table: Table) -> AdmissionSpec:
    """Return `[admission]`."""
    default = AdmissionSpec()
    table.known(*AdmissionSpec.__dataclass_fields__)
    return AdmissionSpec(
        max_waiting=table.number("max_waiting", default.max_waiting, lowest=0),
        max_tokens_in_flight=table.number("max_tokens_in_flight", default.max_tokens_in_flight, lowest=0),
        default_deadline_s=table.seconds("default_deadline_s", default.default_deadline_s, highest=86_400),
    )
