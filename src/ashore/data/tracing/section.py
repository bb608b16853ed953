"""`[otel]`: destination of traces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Final, Self

from msgspec import Meta

from ashore.core.addresses import split_url
from ashore.core.errors import InvalidSpec, MissingExtra
from ashore.kit.extras import how_to_install
from ashore.kit.sealing import is_ours_alone
from ashore.kit.section import AFile, Section

LIBRARY: Final = "opentelemetry.exporter.otlp.proto.http"


class OtelSection(Section, frozen=True, kw_only=True):
    """Traces of requests, sent to an OpenTelemetry collector. Needs the extra `[otel]`."""

    WHOLE_KEPT: ClassVar[bool] = True

    endpoint: Annotated[str, Meta(examples=['"http://127.0.0.1:4318"'])] = ""
    """Address of a collector that takes OTLP over HTTP; spans go to `/v1/traces` there. Empty: no traces. Another host
    than this one must be in `[egress] allow`."""
    share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Share of the requests that are traced, of those without a trace of their own. A caller's decision holds for the
    others."""
    service_name: Annotated[str, Meta(min_length=1, max_length=200)] = "ashore"
    """`service.name` of every span."""
    headers_file: AFile = ""
    """File with headers for the collector, a line `name: value` each, for its key. Only its owner may read it."""
    ca_file: AFile = ""
    """Authority of the collector's certificate; empty: those of the system."""

    @property
    def calls(self) -> Mapping[str, str]:
        return {"endpoint": self.endpoint} if self.endpoint else {}

    def checked(self, where: str) -> Self:
        if not self.endpoint:
            return self
        parts = split_url(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InvalidSpec(
                f"{where} endpoint = {self.endpoint!r}; expected http://HOST:PORT or https://HOST:PORT",
                hint='for a collector on this machine: endpoint = "http://127.0.0.1:4318"',
            )
        for name, file in (("headers_file", self.headers_file), ("ca_file", self.ca_file)):
            if file and not Path(file).is_absolute():
                raise InvalidSpec(f"{where} {name} = {file!r} is a relative path", hint="write the whole path")
        self.headers()
        if not is_installed():
            raise MissingExtra(f"{where} needs OpenTelemetry, which is not installed", hint=how_to_install("otel"))
        return self

    def headers(self) -> dict[str, str]:
        """Return what `headers_file` says, by lower-case name.

        Raises:
            InvalidSpec: it cannot be read, others may read it, or a line is not a header.
        """
        if not self.headers_file:
            return {}
        file = Path(self.headers_file)
        try:
            found_file, text = file.stat(), file.read_text(encoding="ascii")
        except (OSError, ValueError) as fault:
            raise InvalidSpec(f"[otel] headers_file {file}: {fault}", hint="correct the path or the file") from fault
        owner, group = found_file.st_uid, found_file.st_gid
        if not is_ours_alone(found_file.st_mode, owner, group, uid=os.geteuid(), gid=os.getegid()):
            raise InvalidSpec(f"[otel] headers_file {file} can be read by others", hint=f"chmod 600 {file}")
        found = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            name, colon, value = line.partition(":")
            if not colon or not name.strip().replace("-", "").isalnum():
                raise InvalidSpec(f"[otel] headers_file {file}: a line is not `name: value`", hint="correct that line")
            found[name.strip().lower()] = value.strip()
        return found


def is_installed() -> bool:
    """Return whether the extra is there. Imports nothing of it but packages."""
    try:
        return find_spec(LIBRARY) is not None
    except ModuleNotFoundError:
        return False
