"""Reaching a server: the list, allowed addresses of a name, certificates, and the key.

Nodes are listed in a file that the host's parent rewrites when they come, drain and leave (`FleetServers`).
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from ashore.core.errors import InvalidSpec, PermissionDenied, Unauthenticated
from ashore.data.engines.model import FLEET_FILE, FLEET_IDENTITY, EngineOptions, FleetServer
from ashore.kit.decode import UNDECODABLE
from ashore.kit.egress import Target, check_addresses, check_url, is_inside, parse_allow, resolve
from ashore.kit.identity import Identity, trust
from ashore.kit.outgoing import Opening

CONNECT_S: Final = 5.0
READ_S: Final = 300.0
"""Longest wait for the next piece of an answer, as for one step of an engine of ours."""
IDLE_S: Final = 1.0
"""How long a connection may have rested that an order goes out on. vLLM closes one that rested for 5 s; an order that
crosses with that is lost. A new one on this machine costs nothing."""
NAME_S: Final = 10.0
"""How long the address of a name is cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The operator's settings for the servers of a model, besides their addresses."""

    key: str = ""
    """The key itself, `env:NAME`, or `file:PATH`; empty: none is sent."""
    ca_file: str = ""
    identity: Identity | None = None
    """Identity shown to servers of its fleet, whose authority alone is then trusted; None: none."""
    only_tls_outside: bool = False
    """Whether a server outside of the operator's networks is called over TLS alone."""

    @classmethod
    def of(cls, options: EngineOptions) -> Reach:
        """Return the settings in the options of an engine."""
        words = {name: str(options.extra.get(name, "")) for name in ("key", "api_key", "ca_file")}
        return cls(
            key=words["key"] or words["api_key"],
            ca_file=words["ca_file"],
            identity=None if words["ca_file"] else _identity(),
        )

    def client(self, server: FleetServer) -> httpx.AsyncClient:
        """Return a client for one address. No proxy, no redirect."""
        return httpx.AsyncClient(
            base_url=server.url,
            headers={"Accept-Encoding": "identity"},
            auth=_Key(self.key) if self.key else None,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            transport=self._transport(server, self._trust()),
            trust_env=False,
        )

    def _trust(self) -> ssl.SSLContext:
        if self.identity is not None:
            return self.identity.context(server=False)
        return trust("the engine", self.ca_file)

    def _transport(self, server: FleetServer, trust: ssl.SSLContext) -> httpx.AsyncBaseTransport:
        limits = httpx.Limits(max_connections=None, keepalive_expiry=IDLE_S)
        plain = _Resent(httpx.AsyncHTTPTransport(verify=trust, limits=limits, trust_env=False))
        if self.only_tls_outside and is_outside(server) and not server.url.startswith("https:"):
            return _Refused(server.url)
        if not server.entry:
            return plain
        return _Checked(check_url(server.url, parse_allow([server.entry])), plain)


def is_outside(server: FleetServer) -> bool:
    """Return whether a server lies outside of the operator's own networks, as far as its entry of `[egress]` says."""
    return not is_inside(server.entry or urlsplit(server.url).netloc)


def _identity() -> Identity | None:
    found = Identity(folder=Path(os.environ.get(FLEET_IDENTITY, "fleet")))
    return found if found.is_there else None


class FleetServers:
    """The servers of one model of the fleet, as a file lists them."""

    def __init__(self, file: Path, alias: str) -> None:
        self._file = file
        self._alias = alias
        self._seen: tuple[int, int] | None = None

    @classmethod
    def of(cls, options: EngineOptions) -> FleetServers | None:
        """Return the file that lists the nodes of an engine; None if it starts a server of its own.

        Raises:
            InvalidSpec: the file is not configured.
        """
        alias = str(options.extra.get("fleet", ""))
        if not alias:
            return None
        if not os.environ.get(FLEET_FILE):
            raise InvalidSpec(
                f"{alias} is answered by engine nodes, and no file lists them",
                hint="a model with [model.engine] fleet is served by `ashore up`",
            )
        return cls(Path(os.environ[FLEET_FILE]), alias)

    def read(self) -> tuple[FleetServer, ...] | None:
        """Return the servers; None if nothing has changed since the last call, or the file cannot be read."""
        try:
            found = self._file.stat()
            seen = (found.st_ino, found.st_mtime_ns)
            if seen == self._seen:
                return None
            listed = msgspec.json.decode(self._file.read_bytes(), type=dict[str, tuple[FleetServer, ...]])
        except (OSError, *UNDECODABLE):
            return None
        self._seen = seen
        return listed.get(self._alias, ())


class _Key(httpx.Auth):
    """Sends the key. A key file is read for each request, so that it may be changed at any time."""

    def __init__(self, source: str) -> None:
        kind, _, self._at = source.partition(":")
        self._is_file = kind == "file"
        self._key = os.environ.get(self._at, "") if kind == "env" else ("" if self._is_file else source)
        if kind == "env" and not self._key:
            raise InvalidSpec(
                f"the environment has no {self._at}, which [model.engine] key names",
                hint="set it for the process that runs `ashore up`",
            )

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._read() if self._is_file else self._key}"
        yield request

    def _read(self) -> str:
        try:
            return Path(self._at).read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise Unauthenticated(
                f"the key of the server in {self._at} cannot be read: {error}", hint="correct [model.engine] key"
            ) from error


class _Resent(httpx.AsyncBaseTransport):
    """Sends a request again whose kept connection broke before a byte of its answer came: the server had closed it, and
    nothing has happened. On a connection of its own that is a failure of the server."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        while True:
            opening = Opening()
            request.extensions = {**request.extensions, "trace": opening}
            try:
                return await self._inner.handle_async_request(request)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if opening.is_new:
                    raise

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Refused(httpx.AsyncBaseTransport):
    """Calls nobody: prompts in plain text would cross networks that are not the operator's."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise PermissionDenied(
            f"{self._url} is outside of the operator's networks, and not https",
            hint="write https://, or list its network in [fleet] networks",
        )


class _Checked(httpx.AsyncBaseTransport):
    """Connects to a checked address of a name: one outside `[egress]` is not called."""

    def __init__(self, target: Target, inner: httpx.AsyncBaseTransport) -> None:
        self._target = target
        self._inner = inner
        self._address = ""
        self._until_s = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if time.monotonic() >= self._until_s:
            target = self._target
            try:
                found = [target.host] if target.literal else await resolve(target.host, target.port)
            except OSError as error:
                raise httpx.ConnectError(f"{target.host} has no address: {error}", request=request) from error
            self._address = check_addresses(target, found)
            self._until_s = time.monotonic() + NAME_S
        extensions: dict[str, Any] = {**request.extensions, "sni_hostname": self._target.host}
        request.extensions = extensions
        request.url = request.url.copy_with(host=self._address)  # the Host header has the name already
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()
