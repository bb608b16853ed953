"""`[edge]`: the proxy in front of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from msgspec import Meta
from msgspec.structs import replace

from ashore.core.errors import InvalidSpec
from ashore.kit.section import AFile, AtLeast1, Kept, Port, Section

EdgeKind = Literal["none", "envoy"]
EdgeTls = Literal["generate", "files", "off"]


class EdgeSection(Section, frozen=True, kw_only=True):
    """The proxy in front of the API: TLS, one port for everything, several workers."""

    kind: Kept[EdgeKind] = "none"
    """`envoy`: run Envoy in front; `none`: clients connect to the API worker directly. `--edge` overrides it."""
    host: Kept[str] = "127.0.0.1"
    """Address to listen on; 0.0.0.0: every address of this machine. `--host` overrides it."""
    port: Kept[Port] = 8443
    """Port of HTTP/1.1, HTTP/2 and gRPC. `--port` overrides it."""
    tls: EdgeTls = "generate"
    """`generate`: ashore makes a certificate and keeps it in the home; `files`: use `certificate` and `key`, the
    default if `certificate` is set; `off`: no TLS. A reload can change the certificate, but cannot turn TLS on or
    off."""
    certificate: AFile = ""
    """PEM file with your certificate chain. When the file is replaced, the edge loads it within an hour."""
    key: AFile = ""
    """PEM file with the private key, without a password."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 16 << 20
    """Longest body of a request; uploads to `/v1/files` have `[jobs] max_file_bytes`. A reload changes it at the edge;
    workers accept longer bodies only after a restart."""
    flood_per_s: AtLeast1 = 50_000
    """Requests per second above which requests are refused: protection against floods, not a limit per client."""
    machines: tuple[str, ...] = ()
    """`host:port` of the edges of other machines, which take over requests that this one cannot answer."""
    machines_ca: AFile = ""
    """File with the CA certificates that verify those edges; empty: those of the system."""
    names: tuple[str, ...] = ()
    """More names and addresses for the generated certificate, in addition to the name of this machine, localhost,
    loopback and `host`."""
    access_log: bool = True
    """Write one line per request to `logs/edge.log`."""
    trusted_proxies: Annotated[int, Meta(ge=0, le=16)] = 0
    """Number of proxies in front of the edge whose `x-forwarded-for` is trusted; 0: the header is dropped."""
    threads: Kept[Annotated[int, Meta(ge=0, le=256)]] = 0
    """Threads of Envoy; 0: one, or two on machines with four cores or more."""

    @classmethod
    def prepared(cls, values: Mapping[str, object], where: str) -> Mapping[str, object]:
        return values if "tls" in values or not values.get("certificate") else {**values, "tls": "files"}

    def checked(self, where: str) -> Self:
        if (self.tls == "files") != bool(self.certificate and self.key):
            raise InvalidSpec(
                f"{where} tls = {self.tls!r} with certificate = {self.certificate!r} and key = {self.key!r}",
                hint='give both files with tls = "files", or neither',
            )
        for text in self.machines:
            host, _, port = text.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65_536:
                raise InvalidSpec(f"{where} machines has {text!r}; expected host:port", hint='write "10.0.0.2:8443"')
        return self

    def kept(self) -> dict[str, object]:
        return {**super().kept(), "tls": "off" if self.tls == "off" else "on"}

    def reloaded(self, said: Self) -> Self:
        taken = super().reloaded(said)
        return taken if self.kept()["tls"] == taken.kept()["tls"] else replace(taken, tls=self.tls)
