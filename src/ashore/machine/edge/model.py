"""Input of the edge's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSockets:
    """Listeners of one API worker."""

    http: str
    """Path of the unix socket for HTTP/1.1."""
    grpc: str
    """Path of the unix socket for gRPC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The edge of another machine."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificate and key for clients."""

    certificate_pem: str
    """The chain, leaf first."""
    key_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePlan:
    """One edge: listeners, upstreams, and limits."""

    run: Path
    """Folder of its files and of its administration socket."""
    host: str
    port: int
    tls: Tls | None
    """None: plain text, for a network that is private already."""
    workers: tuple[WorkerSockets, ...]
    control: str
    """Path of the unix socket of the control process."""
    machines: tuple[Machine, ...] = ()
    machines_ca: str = ""
    """File with the certificates that the edges of other machines are checked against; empty: those of the system."""
    clients_ca: str = ""
    """File with the authority that signs certificates of clients; empty: none is asked for one."""
    max_body_bytes: int = 16 << 20
    max_file_bytes: int = 512 << 20
    """For `POST /v1/files`."""
    flood_per_s: int = 50_000
    longest_answer_s: float = 3600.0
    """Longest deadline that a request may have; a stream may be silent for so long."""
    max_connections: int = 8192
    connection_idle_s: float = 620.0
    """After which a client's connection on which nothing happens is closed. One that was used gets notice first: for
    the drain timeout (5 s) a request on it is still answered, as the last."""
    access_log: bool = True
    trusted_proxies: int = 0
    """Proxies in front of this edge whose `x-forwarded-for` is believed."""

    @property
    def flood_fill(self) -> int:
        """Requests that the bucket of `flood_per_s` gets at once, ten times a second."""
        return max(1, self.flood_per_s // 10)

    @property
    def files(self) -> Path:
        """Directory of the files that Envoy watches."""
        return self.run / "edge"

    @property
    def fullness(self) -> Path:
        """File with the share of Envoy's connections that are open; Envoy itself reads it."""
        return self.run / "edge-fullness"

    @property
    def bootstrap(self) -> Path:
        """Envoy's bootstrap file."""
        return self.run / "envoy.yaml"

    @property
    def admin_socket(self) -> Path:
        return self.run / "envoy-admin.sock"
