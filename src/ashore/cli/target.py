"""Which server a client command talks to, and with which key."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field, replace

from ashore.cli.refusals import raise_refusal
from ashore.core import split_url
from ashore.errors import InvalidRequest, NotReady, SourceUnreachable
from ashore.settings import Settings, read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTarget:
    """An address and the key for it."""

    url: str
    """Without `/v1` and without a slash at the end, or with the path that the user gave."""
    key: str = field(default="", repr=False)
    local: bool = False
    """Whether it is the server of this home."""
    ca_file: str = ""
    """Authority of its certificate; empty: those of the system."""

    def verify(self) -> ssl.SSLContext | bool:
        """Return how httpx checks the server's certificate."""
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else True


def find_target(url: str | None, *, key: str | None = None, settings: Settings | None = None) -> ServerTarget:
    """Return the server to talk to: the given one, or the one that runs from this home.

    The key is the given one, else `ASHORE_API_KEY`, else the home's `first-key`, which is sent to loopback only.

    Raises:
        NotReady: no address was given, and nothing runs from this home.
        InvalidRequest: the address is malformed.
    """
    settings = settings or read_settings()
    address = normalise(url) if url else local_address(settings)
    chosen = key or settings.api_key
    if not chosen and is_loopback(address) and settings.home.first_key.is_file():
        chosen = settings.home.first_key.read_text().strip()
    return ServerTarget(url=address, key=chosen, local=not url, ca_file=authority_for(address, settings))


def operator_target(url: str | None, *, key: str | None = None) -> ServerTarget:
    """Return the server to look at. Where no key was named and the server is this home's, its owner looks: by the token
    that the server made for its own processes, which only the owner of the home reads.

    Raises:
        NotReady: no address was given, and nothing runs from this home.
        InvalidRequest: the address is malformed.
    """
    settings = read_settings()
    target = find_target(url, key=key, settings=settings)
    if url or key or settings.api_key:
        return target
    try:
        return replace(target, key=settings.home.internal_token.read_text().strip() or target.key)
    except OSError:
        return target


def local_address(settings: Settings) -> str:
    """Return the address of the server that runs from this home.

    Raises:
        NotReady: none does.
    """
    from ashore.serving import read_topology

    path = settings.home.topology
    if not path.is_file():
        raise NotReady(
            f"no server is running from {settings.home.root}",
            hint="start one in another terminal with `ashore up`, or give the address of a server with --url",
        )
    topology = read_topology(path)
    if topology.edge is not None:
        return topology.edge.url
    listen = topology.http
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    return f"http://[{host}]:{listen.port}" if ":" in host else f"http://{host}:{listen.port}"


def authority_for(address: str, settings: Settings) -> str:
    """Return the file with the authority of this home's edge, for addresses of this machine; empty where there is none.

    A server elsewhere is checked against the system's authorities alone.
    """
    file = settings.home.edge / "ca.pem"
    return str(file) if address.startswith("https://") and is_loopback(address) and file.is_file() else ""


def normalise(url: str) -> str:
    """Return `url` with a scheme and without a slash at the end. A path that is only `/v1`, as OpenAI's clients take
    it, is left out: most routes lie beside it.

    Raises:
        InvalidRequest: it is no http or https address.
    """
    full = url if "//" in url else f"http://{url}"
    parts = split_url(full)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"{url!r} is not an http or https address", hint="for example http://127.0.0.1:8080")
    full = full.rstrip("/")
    return full.removesuffix("/v1") if parts.path.rstrip("/") == "/v1" else full


def is_loopback(url: str) -> bool:
    """Return whether an address is on this machine."""
    host = split_url(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def api_base(url: str) -> str:
    """Return the base of the OpenAI routes: `/v1` is added where the address has no path."""
    return url if split_url(url).path else f"{url}/v1"


def unreachable(target: ServerTarget, fault: Exception) -> SourceUnreachable:
    """Return the error for a server that nobody reaches."""
    what = f"{target.url} does not answer: {fault or type(fault).__name__}"
    if target.local:
        return SourceUnreachable(what, hint="the server of this home has stopped; start it again with `ashore up`")
    return SourceUnreachable(what, hint="check the address, and that the server is running")


def ask_server(target: ServerTarget, method: str, path: str, *, body: bytes | None = None) -> bytes:
    """Return the body of an answer of the server. `body`: JSON to send.

    Raises:
        SourceUnreachable: nobody answers there.
        AshoreError: the server refused; its own words.
    """
    import httpx

    headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
    try:
        answer = httpx.request(
            method,
            target.url + path,
            headers=headers,
            content=body,
            timeout=10.0,
            trust_env=False,
            verify=target.verify(),
        )
    except httpx.HTTPError as fault:
        raise unreachable(target, fault) from fault
    if answer.status_code != 200:
        raise_refusal(answer.status_code, answer.content, target.url)
    return answer.content
