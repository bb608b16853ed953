"""What every ASGI application of ours does: find the route, check access, call the handler, render errors, log the
request.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from ashore.core.addresses import split_url
from ashore.core.errors import AshoreError, Bug, NotReady, PermissionDenied, Unauthenticated, UnknownRoute
from ashore.data.authority import (
    INFER,
    NOBODY,
    OURSELVES,
    Authenticator,
    Authority,
    OnBehalf,
    PolicyAuthority,
    Principal,
    denial_of,
)
from ashore.data.http.accesslog import AccessLog
from ashore.data.http.errors import ErrorForm, error_body, error_headers, is_ours_to_mend
from ashore.data.http.exchange import ClientGone, Exchange, Receive, Scope, Send
from ashore.data.http.routes import Route, RouteTable
from ashore.data.origin import Origins, origin_of
from ashore.data.path import Limits, Urgency
from ashore.data.recording import LogRecorder
from ashore.data.underway import Bodies, Hold, bodies_of
from ashore.kit.call import Call
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import Recorder
from ashore.kit.rights import METRICS_READ, SERVER, check_call, lacks
from ashore.kit.rooms import Rooms

log = logging.getLogger("ashore.http")

T = TypeVar("T")

SWEEP_S: Final = 1.0
LOOPBACK: Final = ("127.", "::1", "::ffff:127.")
URGENCIES: Final[Mapping[bytes, Urgency]] = MappingProxyType({b"batch": "batch", b"interactive": "interactive"})
UNNOTED: Final = ("/healthz", "/health", "/ping", "/readyz", "/console/static/{file}", "/internal/")
"""Beginnings of routes that an edge, a process of ours or every page of the console asks every second; only their
refusals are logged."""
FORWARDED: Final = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via")
"""Headers by which a proxy marks a forwarded request."""
LANGFUSE: Final = "/api/public/"
"""Below it, clients send their key as the password of Basic authentication."""


class PathView(Protocol):
    """The request path, as pages and administration see it: that of this process, or what the workers report."""

    @property
    def draining(self) -> bool: ...
    @property
    def state(self) -> str:
        """`ready`, `loading`, `draining` or `not-recording`."""
        ...

    def models(self, principal: Principal | None = None) -> Sequence[Any]:
        """Return the cards of the models; for a principal, only those that it may use."""
        ...

    async def read_aside(self, principal: Principal, work: Callable[[], Any], /) -> Any:
        """Return the result of `work`, run on the threads for long texts."""
        ...

    async def at_length(self, num_chars: int, work: Callable[[], T], principal: Principal) -> T:
        """Return the result of `work` on so many characters, run there if they are many."""
        ...


class SessionDoor(Protocol):
    """Knows who is logged in to the console."""

    async def principal_of(self, exchange: Exchange, origin: str, *, behind_tls: bool) -> Principal:
        """Return who sent a request from a page.

        Raises:
            Unauthenticated, PermissionDenied: no session, or another site sent the request.
        """
        ...


class Face:
    """A raw ASGI 3 callable; `start` and `close` around its life."""

    def __init__(
        self,
        path: PathView,
        authenticator: Authenticator,
        metrics: Metrics,
        routes: Sequence[Route],
        *,
        limits: Limits,
        access_log: AccessLog | None = None,
        authority: Authority | None = None,
        recorder: Recorder | None = None,
        origins: Origins | None = None,
        rooms: Rooms | None = None,
        bodies: Bodies | None = None,
        console: SessionDoor | None = None,
        described: Sequence[Route] = (),
        settle: Callable[[], Awaitable[None]] | None = None,
        slow: asyncio.Semaphore | None = None,
    ) -> None:
        self.described: Final = described or routes
        """What `/openapi.json` and `/docs` describe."""
        self.settle: Final = settle
        self.slow: Final = slow
        """Returns when every process goes by a change of the state; None: no other process does."""
        self.path: Final = path
        self.metrics: Final = metrics
        self.limits: Final = limits
        self.table: Final = RouteTable([one for one in routes if limits.ollama or one.errors != "ollama"])
        self.authority: Final = authority or PolicyAuthority()
        self.recorder: Final = recorder or LogRecorder()
        self._origins = origins or Origins()
        self._bodies = bodies or bodies_of(limits)
        self.rooms: Final = rooms or Rooms()
        self.console: Final = console
        self._on_behalf = self.rooms.find(OnBehalf)
        self.description = b""
        """The OpenAPI document, created on first request."""
        self._authenticator = authenticator
        self._access_log = access_log
        self._open: dict[Exchange, asyncio.Task[object]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start cutting off clients that do not read their stream."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="sweep of stalled streams")

    async def close(self) -> None:
        """Stop the sweep and write the last lines of the access log."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._access_log is not None:
            self._access_log.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        task = asyncio.current_task()
        assert task is not None
        self._open[exchange] = task
        route: Route | None = None
        principal: Principal | None = None
        passed_on = False
        try:
            try:
                route, exchange.arguments = self.table.find(exchange.method, exchange.path)
            except AshoreError:  # not a route of this process
                passed_on = await self._pass_on(exchange)
                if not passed_on:
                    raise
            if route is not None:
                exchange.route = route.path
                if route.guard == "session":
                    principal = await self._of_session(exchange)
                else:
                    principal = self._identify(route, exchange)
                if principal is not NOBODY:  # else the route needs no key
                    self._check_route(route, principal)
                    exchange.hold = self._bodies.hold(principal.tenant, principal.id)
                    if route.guard != "session":
                        exchange.admit_again = partial(self._admit_again, route, exchange, principal)
                await self._answer(route, exchange, principal)
            if exchange.unread:
                await exchange.linger()
        except AshoreError as fault:
            self._record(exchange, principal, fault)
            await self._answer_fault(route, exchange, principal, fault)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not exchange.gone:
                raise
            task.uncancel()
        except Exception as fault:  # the outermost loop: our bug; the client gets only its id
            log.exception("request %s failed", exchange.request_id)
            bug = Bug(
                f"internal error on request {exchange.request_id}: {type(fault).__name__}",
                hint="report this with the log lines of that request",
            )
            await self.refuse(exchange, bug, errors_of(route, exchange))
        finally:
            exchange.close()
            del self._open[exchange]
            if not passed_on:
                self._note(exchange)

    async def _pass_on(self, exchange: Exchange) -> bool:
        """Have another process answer a request without a route here, if it is for it; return whether it did."""
        return False

    async def _answer(self, route: Route, exchange: Exchange, principal: Principal) -> None:
        """Answer a request whose caller may make it."""
        await route.handler(self, exchange, principal)

    async def _answer_fault(
        self, route: Route | None, exchange: Exchange, principal: Principal | None, fault: AshoreError
    ) -> None:
        """Answer a request that failed."""
        await self.refuse(exchange, fault, errors_of(route, exchange))

    def _identify(self, route: Route, exchange: Exchange) -> Principal:
        """Return the calling principal.

        Raises:
            Unauthenticated: the route needs a key and none, or a wrong one, was given.
        """
        if route.guard == "open":
            return NOBODY
        if route.guard == "ours":
            if exchange.client_host or not is_local(exchange):
                raise UnknownRoute(f"no such path: {exchange.path[:100]!r}")
            return OURSELVES
        if route.guard == "operator" and is_local(exchange):
            return self._operator_here(route, exchange)
        exchange.origin = self.origin_of(exchange)
        principal: Principal | None = None
        if not route.repeats or b"x-ashore-on-behalf-of" in exchange.headers:  # internal calls use no model
            principal = self._stand_in(exchange)
        if principal is None:
            principal = self._authenticator.authenticate(token_of(exchange), exchange.origin)
        exchange.principal_id = principal.id
        return principal

    def _admit_again(self, route: Route, exchange: Exchange, principal: Principal) -> None:
        """Check a caller again whose body was long on the way.

        Raises:
            Unauthenticated, PermissionDenied: the key was revoked, or the caller may not make this request any more.
        """
        if self._identify(route, exchange) != principal:
            raise Unauthenticated(
                "the account or key changed while the body of the request was sent", hint="send it again"
            )
        self._check_route(route, principal)

    async def may_still(self, call: Call, exchange: Exchange, principal: Principal) -> bool:
        """Return whether the caller of a stream is still authorised: the key is valid and belongs to the same
        account."""
        try:
            now = self._stand_in(exchange) or self._authenticator.authenticate(token_of(exchange), exchange.origin)
        except AshoreError:
            return False
        return now.id == principal.id and not lacks(self.authority, now, call)

    async def _of_session(self, exchange: Exchange) -> Principal:
        """Return the principal that is logged in to the console.

        Raises:
            Unauthenticated, PermissionDenied: no session, or another site sent the request.
        """
        if self.console is None:
            raise NotReady("this server has no console", hint="start the server with `ashore up`")
        origin, behind_tls = self.origin_of(exchange), self.is_behind_tls(exchange)
        principal = await self.console.principal_of(exchange, origin, behind_tls=behind_tls)
        exchange.origin, exchange.principal_id = self.origin_of(exchange), principal.id
        return principal

    def is_behind_tls(self, exchange: Exchange) -> bool:
        """Return whether the edge reports that the browser uses TLS. Only the edge and the owner of the home can use
        a unix socket; the edge removes the header from other clients."""
        by_socket = not exchange.client_host or exchange.client_host.startswith(("/", "unix:"))
        return by_socket and exchange.headers.get(b"x-forwarded-proto") == b"https"

    def _operator_here(self, route: Route, exchange: Exchange) -> Principal:
        """Return the caller from this machine: the owner of the home, who alone reaches a socket; a key with the right
        to look; or anybody, who sees no names."""
        if not exchange.client_host:
            return OURSELVES
        try:
            token = token_of(exchange)
            principal = self._stand_in(exchange) or self._authenticator.authenticate(token, exchange.client_host)
            self._check_route(route, principal)
            return principal
        except AshoreError:
            pass  # no key, or one without the right: as anybody on this machine
        host = exchange.headers.get(b"host", b"").decode("latin-1")
        if not names_this_machine(host):
            raise PermissionDenied(
                f"this request has no API key and names the host {host[:100]!r}",
                hint="use 127.0.0.1 or localhost, or send a key with the right `metrics:read`",
                action=METRICS_READ,
                resource=SERVER,
                rule="without a key, only the loopback names of this machine are accepted",
            )
        return NOBODY

    def _check_route(self, route: Route, principal: Principal) -> None:
        """Check that the caller may call this route.

        Raises:
            PermissionDenied: they may not.
        """
        if route.call is not None:
            check_call(self.authority, principal, route.call)
        elif route.guard == "operator":
            self.authority.require(principal, METRICS_READ, SERVER)
        elif route.guard == "infer" and not self.authority.holds(principal, INFER):
            self.authority.require(principal, INFER, "model/*")

    def _stand_in(self, exchange: Exchange) -> Principal | None:
        """Return the principal that one of our processes runs a job for; None for every other caller, whatever it
        claims."""
        named = exchange.headers.get(b"x-ashore-on-behalf-of", b"")
        if self._on_behalf is None:
            return None
        principal = self._on_behalf.principal(token_of(exchange), named.decode("latin-1"))
        if principal is not None and named:
            exchange.urgency = URGENCIES.get(exchange.headers.get(b"x-ashore-urgency", b""), "background")
            exchange.job_id = exchange.headers.get(b"x-ashore-job", b"").decode("latin-1")
        return principal

    def origin_of(self, exchange: Exchange) -> str:
        """Return the client address of a request."""
        forwarded = exchange.headers.get(b"x-forwarded-for", b"").decode("latin-1")
        return origin_of(exchange.client_host, forwarded, trusted_proxies=self._origins.trusted_proxies)

    def hold_of_stranger(self, exchange: Exchange) -> Hold:
        """Return the body hold of a request that is not authenticated yet: by its address."""
        return self._bodies.hold("", self.origin_of(exchange))

    def _record(self, exchange: Exchange, principal: Principal | None, fault: AshoreError) -> None:
        act = denial_of(fault, principal, origin=self.origin_of(exchange), request_id=exchange.request_id)
        if act is not None:
            self.recorder.record(act)

    async def refuse(self, exchange: Exchange, fault: AshoreError, form: ErrorForm) -> None:
        exchange.error_code = fault.code
        if is_ours_to_mend(fault):
            log.warning("request %s: %s %s", exchange.request_id, fault.code, fault.message)
        if exchange.status:
            log.warning("request %s broke off after the response headers: %s", exchange.request_id, fault.code)
            return
        body = error_body(fault, form, exchange.request_id)
        await exchange.respond(fault.http_status, error_headers(fault), body)
        await exchange.linger()

    def _note(self, exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.started_at
        status = "499" if exchange.gone else str(exchange.status)
        self.metrics.add("ashore_requests", 1, exchange.route, status)
        self.metrics.observe("ashore_request_seconds", seconds, exchange.route)
        if exchange.error_code:
            self.metrics.add("ashore_errors", 1, exchange.error_code)
        is_routine = exchange.status in (200, 304) and exchange.route.startswith(UNNOTED)
        is_noted_there = exchange.gone and exchange.route == "control"  # the control process logs that the client left
        if self._access_log is not None and not is_routine and not is_noted_there:
            self._access_log.add(exchange, seconds)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.metrics.set("ashore_open_requests", len(self._open))
            too_long_ago = time.perf_counter() - self.limits.write_stall_timeout_s
            for exchange, task in list(self._open.items()):
                if 0 < exchange.writing_since < too_long_ago:
                    log.info("request %s: the client stopped reading; connection closed", exchange.request_id)
                    exchange.gone = True
                    task.cancel()


def key_of_basic(given: str) -> str:
    """Return the secret of `Authorization: Basic …`, where Langfuse clients send a key: the password, or the user name
    if that is empty; empty if malformed.
    """
    try:
        name, _, secret = base64.b64decode(given, validate=True).decode("utf-8").partition(":")
    except ValueError:
        return ""
    return secret or name


def errors_of(route: Route | None, exchange: Exchange) -> ErrorForm:
    """Return the error format; for an unknown path, that of the API whose clients use such paths."""
    if route is None:
        return "ollama" if exchange.path.startswith("/api/") else "openai"
    return route.errors


def token_of(exchange: Exchange) -> str | None:
    """Return the request's key, without `Bearer`."""
    given = exchange.headers.get(b"authorization")
    if given is not None:
        scheme, _, token = given.partition(b" ")
        if scheme.lower() == b"basic" and exchange.path.startswith(LANGFUSE):
            return key_of_basic(token.decode("latin-1"))
        return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else None
    given = exchange.headers.get(b"x-api-key")
    return given.decode("latin-1") if given is not None else None


def names_this_machine(host: str) -> bool:
    """Return whether a `Host` header, with or without a port, is a loopback name. A rebound page still sends its own
    name."""
    name = split_url(f"//{host}").hostname if host.isprintable() and not set(host) & set("/?#@\\ ") else None
    if name is None:
        return not host
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def is_local(exchange: Exchange) -> bool:
    """Return whether the request comes from this machine, not through a proxy on it.

    A peer on a unix socket has no address. Only the owner of the home may connect there, and an edge in between reports
    its client.
    """
    if any(name in exchange.headers for name in FORWARDED):
        return False
    return not exchange.client_host or exchange.client_host.startswith(LOOPBACK)
