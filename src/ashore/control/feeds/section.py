"""`[[feed]]`: receivers of the audit log, such as a SIEM, and how they get it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.core.foreign import foreign_errors
from ashore.kit.section import AFile, Seconds, Section

Form = Literal["jsonl", "ecs", "ocsf", "cef"]
PORTS: Final[Mapping[str, int]] = {"syslog+tls": 6514, "hec": 8088, "elastic": 9200, "otlp": 4318}
"""Port of each kind of receiver where the address names none. RFC 5425 gives 6514."""
SCHEMES: Final = "syslog+tls://HOST:PORT, hec+https://…, elastic+https://…/INDEX, otlp+https://… or file:///PATH"
_OWN: Final = ("127.0.0.1", "::1", "localhost")


class FeedTable(Section, frozen=True, kw_only=True):
    """A receiver of the audit log, which gets each record as it is written. Without one, `ashore audit export` is the
    way."""

    name: Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,30}\Z", examples=['"siem"'])]
    """Name of the feed."""
    to: Annotated[str, Meta(examples=['"syslog+tls://siem.corp.example:6514"'])]
    """Receiver: `syslog+tls://HOST:PORT` (RFC 5424 over TLS), `hec+https://` (Splunk), `elastic+https://…/INDEX`
    (Elasticsearch, OpenSearch), `otlp+https://` or `file:///PATH`. Its host must be in `[egress] allow`; without TLS
    only on this machine."""
    form: Form = "jsonl"
    """`jsonl`: records as they were written, which `ashore feed verify` proves; `ecs`, `ocsf`, `cef`: their fields in
    that vocabulary, of which it proves the numbers alone."""
    only: tuple[str, ...] = ()
    """Actions to send, `session:*`, `access:*`; empty: all."""
    most_bytes: Annotated[int, Meta(ge=2_000, le=1 << 20)] = 8_000
    """Longest message. A longer record is sent as a stub: its number and hash, and the beginnings of its fields."""
    settle_s: Seconds = 10.0
    """After a failed attempt, what was confirmed in this time before it is sent again: a receiver that dies may lose
    what it had only in memory."""
    token: str = ""
    """Token for the receiver, best as `{ from_file = PATH }`."""
    ca_file: AFile = ""
    """Authority of the receiver's certificate; empty: those of the system."""
    client_cert: AFile = ""
    """Certificate that the receiver asks for, with its chain, as PEM."""
    client_key: AFile = ""
    """Its private key, as PEM."""

    @property
    def address(self) -> SplitResult:
        """The parts of `to`."""
        return urlsplit(self.to)

    @property
    def kind(self) -> str:
        """What it speaks: `syslog+tls`, `hec`, `elastic`, `otlp`, `file`."""
        scheme = self.address.scheme
        return scheme if scheme == "syslog+tls" else scheme.partition("+")[0]

    @property
    def url(self) -> str:
        """Address of its server over HTTP; for syslog one that `[egress]` can judge, for a file empty."""
        parts = self.address
        if self.kind == "file":
            return ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        scheme = "http" if parts.scheme.endswith("+http") else "https"
        return f"{scheme}://{host}:{parts.port or PORTS[self.kind]}{parts.path.rstrip('/')}"

    def checked(self, where: str) -> Self:
        with foreign_errors(f"{where} to = {self.to!r}", InvalidSpec, hint=f"expected {SCHEMES}"):
            parts, port = self.address, self.address.port
        known = {"syslog+tls", "file", *(f"{kind}+{end}" for kind in PORTS for end in ("http", "https"))}
        plain = not (parts.username or parts.password or parts.query or parts.fragment)
        placed = Path(parts.path).is_absolute() and not parts.netloc if self.kind == "file" else bool(parts.hostname)
        if parts.scheme not in known or not placed or not plain or port == 0:
            raise InvalidSpec(f"{where} to = {self.to!r}; expected {SCHEMES}", hint="a token goes into `token`")
        if parts.scheme.endswith("+http") and parts.hostname not in _OWN:
            raise InvalidSpec(
                f"{where} to = {self.to!r} sends the audit log in clear to another machine", hint="use +https://"
            )
        if self.form == "cef" and self.kind not in ("syslog+tls", "file"):
            raise InvalidSpec(f"{where} form = 'cef' goes over syslog or into a file", hint='form = "jsonl"')
        if self.kind == "elastic" and not parts.path.strip("/"):
            raise InvalidSpec(f"{where} to = {self.to!r} names no index", hint="end it with /ashore-audit")
        for name in ("ca_file", "client_cert", "client_key"):
            if (file := getattr(self, name)) and not Path(file).is_absolute():
                raise InvalidSpec(f"{where} {name} = {file!r} is a relative path", hint="write the whole path")
        if bool(self.client_cert) != bool(self.client_key):
            raise InvalidSpec(f"{where} has one of client_cert and client_key", hint="give both or neither")
        return self


class FeedSection(Section, frozen=True, kw_only=True):
    """Receivers of the audit log."""

    TABLES: ClassVar[str] = "items"

    items: tuple[FeedTable, ...] = ()

    @property
    def calls(self) -> Mapping[str, str]:
        return {f"{one.name} to": one.url for one in self.items if one.url}

    def checked(self, where: str) -> Self:
        names = [one.name for one in self.items]
        if len(set(names)) < len(names):
            raise InvalidSpec(f"{where} has two [[feed]] of the same name", hint="give each its own name")
        return self
