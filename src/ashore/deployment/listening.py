"""Where `ashore up` listens, and how much it admits: what the operator said, and what follows for each worker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from ashore.audit import AuditLink
from ashore.cache import CachePolicy
from ashore.config import (
    AccessSpec,
    AdmissionSpec,
    AuditSpec,
    BackupSpec,
    EdgeSpec,
    EgressSpec,
    HttpSpec,
    JobsSpec,
    ListenSpec,
)
from ashore.deployment.differences import differences
from ashore.edge import worker_sockets
from ashore.jobs import ApiAddress
from ashore.privacy import PrivacyPolicy
from ashore.releases import ReleasePolicy
from ashore.serving import GrpcListen, HttpListen, RedisLink, WorkerListen
from ashore.settings import Home

KEPT: Final = ("http", "grpc", "redis", "embedded_redis_bytes", "jobs", "egress", "audit", "config")
"""Fields of `Listening` that stay as they were when the server started."""
TAKEN: Final = ("admission", "cache", "edge", "privacy", "release", "access", "backup")
"""Those that a reload takes anew, called as their sections of ashore.toml are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the API worker listens, and how much it admits."""

    http: HttpSpec
    grpc: ListenSpec
    admission: AdmissionSpec
    cache: CachePolicy = field(default_factory=CachePolicy)
    redis: RedisLink | None = None
    embedded_redis_bytes: int = 0
    """Memory of a Valkey server of our own behind `redis`; 0: there is none."""
    edge: EdgeSpec = field(default_factory=EdgeSpec)
    jobs: JobsSpec = field(default_factory=JobsSpec)
    egress: EgressSpec = field(default_factory=EgressSpec)
    audit: AuditSpec = field(default_factory=AuditSpec)
    privacy: PrivacyPolicy = field(default_factory=PrivacyPolicy)
    release: ReleasePolicy = field(default_factory=ReleasePolicy)
    access: AccessSpec = field(default_factory=AccessSpec)
    backup: BackupSpec = field(default_factory=BackupSpec)
    config: str = ""
    """Absolute path of ashore.toml; empty: there is none."""

    def kept_for_life(self) -> dict[str, object]:
        """Return what a running server does not change, by the section of ashore.toml that says it."""
        edge, redis = self.edge, self.redis
        return {
            "[http]": self.http,
            "[grpc]": self.grpc,
            "[edge]": {
                "kind": edge.kind,
                "host": edge.host,
                "port": edge.port,
                "tls": "off" if edge.tls == "off" else "on",
                "threads": edge.threads,
            },
            "[redis]": {
                "url": redis.url if redis else "",
                "timeout_s": redis.timeout_s if redis else None,
                "max_bytes": self.embedded_redis_bytes,
            },
            "[cache]": {"max_bytes": self.cache.max_bytes},
            "[jobs]": self.jobs,
            "[egress]": self.egress,
            "[audit]": self.audit,
            "[access]": {"charge_hits": self.access.charge_hits, "price": self.access.prices},
        }

    def kept_but_changed(self, said: Listening) -> tuple[str, ...]:
        """Return, for each key that `said` changes and a running server keeps, `[jobs] result_ttl_s: 3600 -> 1800`."""
        now, then = self.kept_for_life(), said.kept_for_life()
        return tuple(f"{name} {line}" for name in then for line in differences(now[name], then[name]))

    def keys_to_take(self, said: Listening) -> tuple[str, ...]:
        """Return, for each key but those of models that `said` changes and a reload follows, `[cache] ttl_s: 60 -> 90`.

        Secrets are not shown."""
        then = self.reloaded(said)
        return tuple(
            f"[{name}] {line}" for name in TAKEN for line in differences(getattr(self, name), getattr(then, name))
        )

    def sections_to_take(self, said: Listening) -> tuple[str, ...]:
        """Return the sections of ashore.toml, but for models, in which `said` differs and a reload follows it."""
        then = self.reloaded(said)
        return tuple(f"[{name}]" for name in TAKEN if getattr(then, name) != getattr(self, name))

    def reloaded(self, said: Listening) -> Listening:
        """Return what a running server goes by from now on: what `said` says but for what `kept_for_life` names."""
        access = replace(said.access, charge_hits=self.access.charge_hits, prices=self.access.prices)
        return replace(said, access=access, **{name: getattr(self, name) for name in KEPT})

    @property
    def has_edge(self) -> bool:
        return self.edge.kind != "none"

    @property
    def address(self) -> str:
        """Base address for a client on this machine."""
        where = self.edge if self.has_edge else self.http
        scheme = "https" if self.has_edge and self.edge.tls != "off" else "http"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where.host, where.host)
        return f"{scheme}://[{host}]:{where.port}" if ":" in host else f"{scheme}://{host}:{where.port}"

    def authority(self, home: Home) -> str:
        """Return the file that clients check the edge's certificate against; empty where ashore did not make it."""
        return str(home.edge / "ca.pem") if self.has_edge and self.edge.tls == "generate" else ""


def worker_listen(listening: Listening, home: Home, index: int) -> WorkerListen:
    """Return where API worker `index` listens: behind an edge on unix sockets alone, so that nobody goes around it."""
    if listening.has_edge:
        sockets = worker_sockets(home.run, index)
        return WorkerListen(http=HttpListen(uds=sockets.http), grpc=GrpcListen(uds=sockets.grpc))
    grpc = listening.grpc
    return WorkerListen(
        http=HttpListen(host=listening.http.host, port=listening.http.port),
        grpc=GrpcListen(host=grpc.host, port=grpc.port) if grpc.port else None,
    )


def api_address(where: HttpListen) -> ApiAddress:
    """Return how a process of this machine reaches an API worker."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where.host, where.host)
    return ApiAddress(uds=where.uds) if where.uds else ApiAddress(host=host, port=where.port)


def audit_link(spec: AuditSpec, home: Home) -> AuditLink:
    """Return where the processes of a home record what they do."""
    return AuditLink(
        path=str(home.audit),
        keys=str(home.audit_keys),
        key=str(home.audit_key),
        durability=spec.durability,
        keeps_content=spec.content == "sealed",
        anchors=spec.anchors,
    )
