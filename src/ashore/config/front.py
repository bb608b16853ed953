"""`[edge]`, `[cache]`, `[redis]`, `[jobs]` and `[egress]`: what stands in front of the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from ashore.config.table import Table
from ashore.errors import InvalidSpec

EdgeKind = Literal["none", "envoy"]
EdgeTls = Literal["generate", "files", "off"]
CacheMode = Literal["off", "exact", "exact_then_semantic"]
REDIS_SCHEMES = ("redis://", "rediss://", "redis+sentinel://", "unix://")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSpec:
    """`[edge]`: the proxy in front of the API."""

    kind: EdgeKind = "none"
    host: str = "127.0.0.1"
    port: int = 8443
    """One port for HTTP/1.1, HTTP/2 and gRPC."""
    tls: EdgeTls = "generate"
    """`generate`: a certificate of our own making, kept in the home; `files`: `certificate` and `key`."""
    certificate: str = ""
    key: str = ""
    max_body_bytes: int = 16 << 20
    flood_per_s: int = 50_000
    """Requests a second over which the edge refuses, as a guard against floods."""
    machines: tuple[str, ...] = ()
    """`host:port` of the edges of other machines that take over what this one cannot answer."""
    machines_ca: str = ""
    """File with the certificates that those edges are checked against; empty: those of the system."""
    names: tuple[str, ...] = ()
    """More names and addresses for the generated certificate: what clients call this machine."""
    access_log: bool = True
    trusted_proxies: int = 0
    """Proxies in front of the edge whose `x-forwarded-for` is believed; 0: what clients send there is dropped."""
    threads: int = 0
    """Threads of Envoy; 0: as many as `edge.threads_for` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRoute:
    """What one alias may do otherwise than `[cache]` says."""

    mode: CacheMode
    ttl_s: float
    error_bound: float
    public: bool = False
    """True lets all tenants share the answers of this alias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """`[cache]`: answers worth keeping."""

    mode: CacheMode = "exact"
    max_bytes: int = 256 << 20
    """Memory that each API worker gives to answers, their vectors included."""
    ttl_s: float = 86_400.0
    error_bound: float = 0.01
    """Share of semantic hits that may be wrong."""
    max_temperature: float = 0.0
    """Requests above it are answered afresh, unless they ask for the cache."""
    routes: Mapping[str, CacheRoute] = field(default_factory=dict)
    """By alias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSpec:
    """`[redis]`: the cache that workers and machines share. Holds cached answers and nothing else."""

    url: str = ""
    """Empty: none; `embedded`: a server of our own under the supervisor."""
    timeout_ms: float = 5.0
    """Longest wait for it before the local tier answers alone."""
    max_bytes: int = 256 << 20
    """Memory of the embedded server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsSpec:
    """`[jobs]`: work that may wait."""

    concurrency: int = 8
    """Jobs that run at once on this machine."""
    max_attempts: int = 10
    """Attempts of one job, those included that a dying process of ours ended; then it is a dead letter."""
    result_ttl_s: float = 30 * 86_400.0
    max_file_bytes: int = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressSpec:
    """`[egress]`: hosts that ashore may call outside. Nothing else is called."""

    allow: tuple[str, ...] = ()


def read_edge(table: Table) -> EdgeSpec:
    """Return `[edge]`."""
    default = EdgeSpec()
    table.known(*EdgeSpec.__dataclass_fields__)
    certificate, key = table.get("certificate", str, ""), table.get("key", str, "")
    tls = cast(EdgeTls, table.choice("tls", "files" if certificate else default.tls, get_args(EdgeTls)))
    if (tls == "files") != bool(certificate and key):
        raise InvalidSpec(
            f"{table.where} tls = {tls!r} with certificate = {certificate!r} and key = {key!r}",
            hint='give both files with tls = "files", or neither',
        )
    return EdgeSpec(
        kind=cast(EdgeKind, table.choice("kind", default.kind, get_args(EdgeKind))),
        host=table.get("host", str, default.host),
        port=table.number("port", default.port, lowest=1, highest=65_535),
        tls=tls,
        certificate=certificate,
        key=key,
        max_body_bytes=table.number("max_body_bytes", default.max_body_bytes, lowest=1024, highest=1 << 30),
        flood_per_s=table.number("flood_per_s", default.flood_per_s, lowest=1),
        machines=tuple(_machine(text, table.where) for text in table.texts("machines")),
        machines_ca=table.get("machines_ca", str, ""),
        names=table.texts("names"),
        access_log=table.get("access_log", bool, default.access_log),
        trusted_proxies=table.number("trusted_proxies", default.trusted_proxies, lowest=0, highest=16),
        threads=table.number("threads", default.threads, lowest=0, highest=256),
    )


def _machine(text: str, where: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise InvalidSpec(f"{where} machines has {text!r}; expected host:port", hint='write "10.0.0.2:8443"')
    return text


def read_cache(table: Table) -> CacheSpec:
    """Return `[cache]`, its `[[cache.route]]` included."""
    default = CacheSpec()
    table.known("mode", "max_bytes", "ttl_s", "error_bound", "max_temperature", "route")
    mode = cast(CacheMode, table.choice("mode", default.mode, get_args(CacheMode)))
    ttl_s = table.seconds("ttl_s", default.ttl_s)
    error_bound = _share(table, "error_bound", default.error_bound)
    routes: dict[str, CacheRoute] = {}
    for one in table.tables("route"):
        one.known("alias", "mode", "ttl_s", "error_bound", "public")
        alias = one.get("alias", str, "")
        if not alias or alias in routes:
            raise InvalidSpec(f"{one.where} has the alias {alias!r}", hint="each route names another alias")
        routes[alias] = CacheRoute(
            mode=cast(CacheMode, one.choice("mode", mode, get_args(CacheMode))),
            ttl_s=one.seconds("ttl_s", ttl_s),
            error_bound=_share(one, "error_bound", error_bound),
            public=one.get("public", bool, False),
        )
    max_temperature = table.get("max_temperature", float, default.max_temperature)
    if not 0 <= max_temperature <= 2:
        raise InvalidSpec(f"{table.where} max_temperature = {max_temperature}; expected 0 to 2", hint="correct it")
    return CacheSpec(
        mode=mode,
        max_bytes=table.number("max_bytes", default.max_bytes, lowest=1 << 20),
        ttl_s=ttl_s,
        error_bound=error_bound,
        max_temperature=max_temperature,
        routes=routes,
    )


def read_redis(table: Table) -> RedisSpec:
    """Return `[redis]`."""
    default = RedisSpec()
    table.known(*RedisSpec.__dataclass_fields__)
    return RedisSpec(
        url=redis_url(table.get("url", str, ""), table.where),
        timeout_ms=table.seconds("timeout_ms", default.timeout_ms, highest=1000),
        max_bytes=table.number("max_bytes", default.max_bytes, lowest=1 << 20),
    )


def redis_url(url: str, where: str) -> str:
    """Return `url` when it has a form that we speak.

    Raises:
        InvalidSpec: it has not. The message leaves out what may be a password.
    """
    if url and url != "embedded" and not url.startswith(REDIS_SCHEMES):
        raise InvalidSpec(
            f"{where} url starts with {url.partition(':')[0][:20]!r}",
            hint=f'expected "embedded" or one of {", ".join(REDIS_SCHEMES)}',
        )
    if url and url != "embedded":
        from ashore.cache.redisurl import check_redis_url

        check_redis_url(url, f"{where} url")
    return url


def read_jobs(table: Table) -> JobsSpec:
    """Return `[jobs]`."""
    default = JobsSpec()
    table.known(*JobsSpec.__dataclass_fields__)
    return JobsSpec(
        concurrency=table.number("concurrency", default.concurrency, lowest=1, highest=1024),
        max_attempts=table.number("max_attempts", default.max_attempts, lowest=1, highest=100),
        result_ttl_s=table.seconds("result_ttl_s", default.result_ttl_s),
        max_file_bytes=table.number("max_file_bytes", default.max_file_bytes, lowest=1024),
    )


def read_egress(table: Table) -> EgressSpec:
    """Return `[egress]`.

    Raises:
        InvalidSpec: an entry of it is malformed.
    """
    from ashore.jobs.egress import parse_allow

    table.known("allow")
    allow = table.texts("allow")
    parse_allow(allow)
    return EgressSpec(allow=allow)


def _share(table: Table, key: str, default: float) -> float:
    value = table.get(key, float, default)
    if not 0 < value < 1:
        raise InvalidSpec(f"{table.where} {key} = {value:g}; expected a share between 0 and 1", hint="0.01 is 1 %")
    return value
