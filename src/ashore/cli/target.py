"""The server that a client command calls, and its key."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote

import msgspec

from ashore.cli.refusals import raise_refusal
from ashore.core.addresses import split_url
from ashore.core.errors import InvalidRequest, NotReady, RemoteRefused, SourceUnreachable
from ashore.kit.processes.lock import is_held
from ashore.kit.processes.ports import is_own_address
from ashore.kit.settings import Settings, read_settings

if TYPE_CHECKING:
    import httpx

MOST_ANSWER_BYTES: Final = 64 << 20
"""Longest answer that is held in memory."""
MOST_FILE_BYTES: Final = 64 << 30
"""Longest answer that is written to a file."""
ANSWER_S: Final = 60.0
"""Longest time for an answer, beyond the wait for its first byte."""
FILE_S: Final = 6 * 3600.0
"""The same for a file: the longest one, at 25 Mbit/s."""


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
    behalf: str = ""
    """PRINCIPAL/TENANT, percent-encoded, that the key acts for; empty: itself."""
    uds: str = ""
    """Socket to ask it by, in place of its address."""
    wait_s: float = 10.0
    """Longest wait for it to say anything."""

    def verify(self) -> ssl.SSLContext:
        """Return how httpx checks the server's certificate."""
        from ashore.kit.identity import trust

        return trust("the command", self.ca_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Behalf:
    principal: str
    tenant: str


_behalf: Final[ContextVar[_Behalf | None]] = ContextVar("on whose behalf the server is asked", default=None)


@contextmanager
def on_behalf_of(principal: str, tenant: str) -> Iterator[None]:
    """Have what is asked of the server of this home inside asked with the rights of somebody who submitted a job.

    Args:
        principal: As `Principal.acting_name` said it.
        tenant: Its tenant.
    """
    before = _behalf.set(_Behalf(principal=principal, tenant=tenant))
    try:
        yield
    finally:
        _behalf.reset(before)


def _acting_target(settings: Settings, behalf: _Behalf) -> ServerTarget:
    """Return an API worker of this home, called with the token that only the home's processes can read."""
    from ashore.data.authority import read_internal_token
    from ashore.data.path import read_topology

    if not settings.home.topology.is_file():
        raise NotReady(f"no server is running from {settings.home.root}", hint="start it: ashore up")
    topology = read_topology(settings.home.topology)
    listen = topology.workers[0].http if topology.edge is not None else topology.http
    return ServerTarget(
        url=local_address(settings) if topology.edge is None else "http://localhost",
        uds=listen.uds if topology.edge is not None else "",
        key=read_internal_token(settings.home.internal_token),
        local=True,
        behalf=f"{quote(behalf.principal, safe='')}/{quote(behalf.tenant, safe='')}",
    )


def find_target(url: str | None, *, key: str | None = None, settings: Settings | None = None) -> ServerTarget:
    """Return the server to talk to: the given one, or the one that runs from this home.

    The key is the given one, else `ASHORE_API_KEY`, else the home's `first-key`, which never leaves this machine: it is
    sent to loopback, and to the server of this home at an address of this machine.

    Raises:
        NotReady: no address was given, and nothing runs from this home.
        InvalidRequest: the address is malformed.
    """
    settings = settings or read_settings()
    if (behalf := _behalf.get()) is not None and not url and not key:
        return _acting_target(settings, behalf)
    address = normalise(url) if url else local_address(settings)
    chosen = key or settings.api_key
    stays_here = is_loopback(address) or (not url and is_of_this_machine(address))
    if not chosen and stays_here and settings.home.first_key.is_file():
        chosen = settings.home.first_key.read_text().strip()
    ca_file = authority_for(address, settings) if stays_here else ""
    return ServerTarget(url=address, key=chosen, local=not url, ca_file=ca_file)


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
    from ashore.data.path import read_topology

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
    """Return the file with the authority of this home's edge, for an address of this machine; empty where there is
    none. A server elsewhere is checked against the system's authorities alone."""
    file = settings.home.edge / "ca.pem"
    return str(file) if address.startswith("https://") and file.is_file() else ""


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


def is_of_this_machine(url: str) -> bool:
    """Return whether an interface of this machine has the address."""
    return is_own_address(split_url(url).hostname or "")


def api_base(url: str) -> str:
    """Return the base of the OpenAI routes: `/v1` is added where the address has no path."""
    return url if split_url(url).path else f"{url}/v1"


def unreachable(target: ServerTarget, fault: Exception) -> SourceUnreachable:
    """Return the error for a server that nobody reaches."""
    what = f"{target.url} does not answer: {fault or type(fault).__name__}"
    if target.local and is_held(read_settings().home.lock):
        return SourceUnreachable(what, hint="its API is restarted now; try again, or look at `ashore logs`")
    if target.local:
        return SourceUnreachable(what, hint="the server of this home has stopped; start it again with `ashore up`")
    return SourceUnreachable(what, hint="check the address, and that the server is running")


def ask_server(target: ServerTarget, method: str, path: str, *, body: bytes | None = None) -> bytes:
    """Return the body of an answer of the server. `body`: JSON to send.

    Raises:
        SourceUnreachable: nobody answers there.
        RemoteRefused: the answer is too long, or does not end.
        AshoreError: the server refused; its own words.
    """
    return b"".join(_answer(target, method, path, body, most_bytes=MOST_ANSWER_BYTES, most_s=ANSWER_S))


def save_answer(target: ServerTarget, method: str, path: str, into: BinaryIO, *, body: bytes | None = None) -> None:
    """Write the body of an answer of the server as it comes.

    Raises:
        AshoreError: as `ask_server`; then a part may be written.
    """
    for piece in _answer(target, method, path, body, most_bytes=MOST_FILE_BYTES, most_s=FILE_S):
        into.write(piece)


def _answer(
    target: ServerTarget, method: str, path: str, body: bytes | None, *, most_bytes: int, most_s: float
) -> Iterator[bytes]:
    import httpx

    headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
    headers["accept-encoding"] = "identity"
    if target.behalf:
        headers["x-ashore-on-behalf-of"] = target.behalf
    timeout = httpx.Timeout(10.0, read=target.wait_s)
    transport = httpx.HTTPTransport(uds=target.uds, trust_env=False) if target.uds else None
    deadline = _Deadline(target.wait_s + most_s)
    try:
        with (
            deadline,
            httpx.Client(transport=transport, timeout=timeout, trust_env=False, verify=target.verify()) as client,
            client.stream(
                method, target.url + path, headers=headers, content=body, extensions={"trace": deadline.note}
            ) as answer,
        ):
            if answer.status_code != 200:
                raise_refusal(answer.status_code, _refusal(answer, target), target.url)
            yield from _at_most(most_bytes, answer, target)
    except httpx.HTTPError as fault:
        if not deadline.is_over:
            raise unreachable(target, fault) from fault
    if deadline.is_over:  # possibly without an error: a response without a length ends with its connection
        raise RemoteRefused(
            f"{target.url} had not finished its answer after {deadline.seconds:g} s",
            hint="check the server and the network in between",
        )


def _at_most(most_bytes: int, answer: httpx.Response, target: ServerTarget) -> Iterator[bytes]:
    """Yield the raw content: decompressed, a few bytes could become many."""
    num_bytes = 0
    for piece in answer.iter_raw():
        num_bytes += len(piece)
        if num_bytes > most_bytes:
            raise RemoteRefused(
                f"{target.url} answered with more than {most_bytes:,} bytes", hint="ask for less, or check the address"
            )
        yield piece


def _refusal(answer: httpx.Response, target: ServerTarget) -> bytes:
    return b"".join(_at_most(MOST_ANSWER_BYTES, answer, target))


class _Deadline:
    """Closes an httpx connection after a total time. httpx's own timeout applies to one read, which a single byte
    satisfies.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *fault: object) -> None:
        self._timer.cancel()

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Take a step of httpx, its extension `trace`: those that make the connection have its socket."""
        if event in ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete",
                     "connection.start_tls.complete"):  # fmt: skip
            self._socket = info["return_value"].get_extra_info("socket")
            if self.is_over:
                self._end()

    def _end(self) -> None:
        self.is_over = True
        if self._socket is not None:
            with suppress(OSError):  # ssl's own close would take its state away from the reading thread
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def listen(target: ServerTarget, path: str, after: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and data of each server-sent event behind a number, until the server ends the stream.

    Raises:
        SourceUnreachable: nobody answers there, or the connection broke.
        AshoreError: the server refused; its own words.
    """
    import httpx

    headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
    headers |= {"last-event-id": str(after), "accept-encoding": "identity"}
    timeout = httpx.Timeout(10.0, read=60.0)
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=False, verify=target.verify()) as client,
            client.stream("GET", target.url + path, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise_refusal(answer.status_code, _refusal(answer, target), target.url)
            number = after
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "data":
                    yield number, msgspec.json.decode(value)
    except httpx.HTTPError as fault:
        raise unreachable(target, fault) from fault
