"""Requests that leave ashore over HTTP. It imports httpx, so import it where a request is made.

With a list of allowed hosts, each hop, including redirects, is checked against the list; its name is resolved once, and
the connection is made to an address that was checked. TLS verifies the name. Credentials are sent only to their host:
httpx removes them on a redirect to another host.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

from ashore.core.errors import SourceUnreachable
from ashore.kit.egress import Allowed, Resolve, Target, check_addresses, check_url, resolve
from ashore.kit.identity import public_trust

DOCUMENT_BYTES: Final = 16 << 20
"""Most bytes of an answer that is read into memory."""
DOCUMENT_S: Final = 120.0
"""Longest time that such an answer may take."""
_HEADERS: Final = {"accept-encoding": "identity", "user-agent": "ashore"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str
    """Where it came from, redirects followed."""


class Opening:
    """Follows how the connection of one request is opened: give it as the `trace` of the request's extensions.

    It closes the connection of a request that is cancelled during its TLS handshake, which httpcore leaves open.
    """

    def __init__(self) -> None:
        self.is_new = False
        """The request did not get a kept connection."""
        self._stream: Any = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Take an event of httpcore."""
        match event:
            case "connection.connect_tcp.started":
                self.is_new = True
            case "connection.connect_tcp.complete":
                self._stream = info["return_value"]
            case "connection.start_tls.failed":
                await self._stream.aclose()


def addresses_of(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name.

    Raises:
        SourceUnreachable: it has none.
    """
    try:
        return [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as fault:
        raise SourceUnreachable(
            f"{host} cannot be resolved: {fault}", hint="check the name and the name server"
        ) from fault


class CheckedTransport(httpx.BaseTransport):
    """Sends each request to a checked address. Uses no proxy."""

    def __init__(
        self,
        allow: Sequence[Allowed],
        *,
        verify: ssl.SSLContext | None = None,
        resolver: Callable[[str, int], Sequence[str]] = addresses_of,
    ) -> None:
        """Create it.

        Args:
            allow: Hosts that may be called.
            verify: Trusted certificates; None: as in `public_trust`.
            resolver: Finds the addresses of a name.
        """
        self._allow, self._verify, self._resolve = allow, verify or public_trust(), resolver
        self._hosts: dict[tuple[str, str], httpx.HTTPTransport] = {}
        """By scheme and authority: a connection that was verified for one name serves no other at the same address."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            PermissionDenied: `[egress]` does not allow its host or an address of the host.
            SourceUnreachable: the host has no address.
        """
        target = check_url(str(request.url.copy_with(userinfo=b"", fragment=None)), self._allow)
        address = check_addresses(target, [target.host] if target.literal else self._resolve(target.host, target.port))
        one = self._hosts.get((target.scheme, target.authority))
        if one is None:
            one = httpx.HTTPTransport(verify=self._verify, trust_env=False)
            self._hosts[target.scheme, target.authority] = one
        return one.handle_request(
            httpx.Request(
                request.method,
                _at(target, address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": target.host},
            )
        )

    def close(self) -> None:
        """Close every connection."""
        for one in self._hosts.values():
            one.close()


def open_client(
    allow: Sequence[Allowed] | None, *, verify: ssl.SSLContext | None = None, redirects: bool = True
) -> httpx.Client:
    """Return a client that calls the allowed hosts only; None: any host, by the proxy of the environment."""
    transport = None if allow is None else CheckedTransport(allow, verify=verify)
    timeout = httpx.Timeout(60.0, connect=15.0)
    return httpx.Client(
        transport=transport,
        verify=verify or public_trust(),
        timeout=timeout,
        follow_redirects=redirects,
        headers=_HEADERS,
    )


def read(client: httpx.Client, method: str, url: str, **asked: Any) -> Answer:
    """Make a request and read its answer, with any status.

    Raises:
        SourceUnreachable: the answer is too large or takes too long. PermissionDenied: the host may not be called.
        httpx.RequestError: the host could not be reached, or redirects without end.
    """
    end_s = time.monotonic() + DOCUMENT_S
    try:
        httpx.URL(url)
    except httpx.InvalidURL as fault:
        raise SourceUnreachable(f"{url[:100]!r} is not a valid URL: {fault}") from fault
    with client.stream(method, url, **asked) as answer:
        body = bytearray()
        for part in answer.iter_raw():
            body += part
            _check_size(len(body), DOCUMENT_BYTES, url)
            if time.monotonic() > end_s:
                raise SourceUnreachable(f"{answer.url.host} did not finish its answer within {DOCUMENT_S:.0f} s")
        return Answer(status=answer.status_code, headers=answer.headers, body=bytes(body), url=str(answer.url))


async def ask_checked(
    url: str,
    allow: Sequence[Allowed],
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    form: Mapping[str, str] | None = None,
    verify: ssl.SSLContext | None = None,
    resolver: Resolve = resolve,
    most_bytes: int,
    timeout_s: float,
) -> Answer:
    """Make one request to a checked address, without proxy or redirects.

    Args:
        url: Address; its host must be allowed.
        allow: Hosts that may be called.
        method: HTTP method.
        headers: More headers.
        content: Body.
        form: Body, as a form.
        verify: Trusted certificates; None: as in `public_trust`.
        resolver: Finds the addresses of a name.
        most_bytes: Largest answer; 0: its body is not read.
        timeout_s: Time-out of the whole request.

    Raises:
        PermissionDenied: the host may not be called. SourceUnreachable: the answer is larger than `most_bytes`.
        httpx.HTTPError, OSError, TimeoutError: there is no answer.
    """
    async with (
        asyncio.timeout(timeout_s),
        httpx.AsyncClient(trust_env=False, verify=verify or public_trust()) as client,
        stream_checked(
            client, url, allow, method=method, headers=headers, content=content, form=form, resolver=resolver
        ) as answer,
    ):
        body = bytearray()
        if most_bytes:
            async for part in answer.aiter_raw():
                body += part
                _check_size(len(body), most_bytes, url)
        return Answer(status=answer.status_code, headers=answer.headers, body=bytes(body), url=url)


@asynccontextmanager
async def stream_checked(
    client: httpx.AsyncClient,
    url: str,
    allow: Sequence[Allowed],
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    form: Mapping[str, str] | None = None,
    resolver: Resolve = resolve,
) -> AsyncIterator[httpx.Response]:
    """Make one request to a checked address, and yield its answer as it begins. Arguments and errors as of
    `ask_checked`; the client must use no proxy and follow no redirects."""
    target = check_url(url, allow)
    found = [target.host] if target.literal else await resolver(target.host, target.port)
    async with client.stream(
        method,
        _at(target, check_addresses(target, found)),
        headers={"host": target.authority, **_HEADERS, **(headers or {})},
        content=content,
        data=form,
        extensions={"sni_hostname": target.host, "trace": Opening()},
    ) as answer:
        yield answer


def _at(target: Target, address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{target.scheme}://{host}:{target.port}{target.path}"


def _check_size(num_bytes: int, most_bytes: int, url: str) -> None:
    if num_bytes > most_bytes:
        raise SourceUnreachable(f"{httpx.URL(url).host} sent more than {most_bytes:,} bytes")
