"""`[edge]`: the proxy in front of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from msgspec import Meta
from msgspec.structs import replace

from ashore.core import AtLeast1, Kept, Port, Section
from ashore.errors import InvalidSpec

EdgeKind = Literal["none", "envoy"]
EdgeTls = Literal["generate", "files", "off"]


class EdgeSection(Section, frozen=True, kw_only=True):
    """The proxy in front of the API: TLS, one port for everything, several workers."""

    kind: Kept[EdgeKind] = "none"
    """`envoy`: an edge stands in front; `none`: clients reach the API worker itself. `--edge` wins."""
    host: Kept[str] = "127.0.0.1"
    """Address to listen on; 0.0.0.0: every address of this machine. `--host` wins."""
    port: Kept[Port] = 8443
    """Port of HTTP/1.1, HTTP/2 and gRPC. `--port` wins."""
    tls: EdgeTls = "generate"
    """`generate`: a certificate of our own making, kept in the home; `files`: `certificate` and `key`, and the default
    where `certificate` is given; `off`: no TLS. A reload takes another certificate, and neither drops nor adds TLS."""
    certificate: str = ""
    """PEM file with your certificate chain. When the file is replaced, the edge takes it within an hour."""
    key: str = ""
    """PEM file with its key, without a password."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 16 << 20
    """Longest body of a request; uploads to `/v1/files` have `[jobs] max_file_bytes`. A reload changes it at the edge;
    workers take bodies longer than at their start once they are started again."""
    flood_per_s: AtLeast1 = 50_000
    """Requests a second over which all are refused: a guard against floods, not a share for each client."""
    machines: tuple[str, ...] = ()
    """`host:port` of the edges of other machines that take over what this one cannot answer."""
    machines_ca: str = ""
    """File with the authorities that those edges are checked against; empty: those of the system."""
    names: tuple[str, ...] = ()
    """More names and addresses for the generated certificate, beside the name of this machine, localhost, loopback and
    `host`."""
    access_log: bool = True
    """One line for each request in `logs/edge.log`."""
    trusted_proxies: Annotated[int, Meta(ge=0, le=16)] = 0
    """Proxies in front of the edge whose `x-forwarded-for` is believed; 0: what clients send there is dropped."""
    threads: Kept[Annotated[int, Meta(ge=0, le=256)]] = 0
    """Threads of Envoy; 0: one, two from four cores on."""

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
