"""The application of an API worker: repeats cached answers, refuses under pressure, defers, and passes
administration on to the control process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ashore.core.errors import AshoreError, NotReady
from ashore.data.authority import Authenticator, Principal
from ashore.data.cache import directive_of
from ashore.data.http.desk import defer, may_defer
from ashore.data.http.exchange import Exchange
from ashore.data.http.face import Face, errors_of
from ashore.data.http.relay import Relay
from ashore.data.http.routes import Route
from ashore.data.http.streaming import cache_headers, standing_headers
from ashore.data.jobs import JobDesk
from ashore.data.path import Limits, ServingService
from ashore.kit.decode import UNDECODABLE
from ashore.kit.metrics import Metrics

log = logging.getLogger("ashore.http")

TIMEOUT_S: Final = 1.0
MAX_BYTES: Final = 16 << 20
"""Limit of an answer with its head; reading stops there."""
PIECE_BYTES: Final = 1 << 16
CACHE_HEADERS: Final = frozenset((b"cache-control", b"x-ashore-cache"))
OF_THE_MOMENT: Final = (b"age", b"x-ashore-cache")
"""Headers that a repeated answer gets fresh, like those that begin with `RATES`."""
RATES: Final = b"x-ratelimit-"


class Siblings:
    """Sends the same question to several processes."""

    def __init__(self, sockets: Sequence[str]) -> None:
        """`sockets`: where they listen for HTTP."""
        self._sockets = tuple(sockets)

    async def ask(self, path: str, *, timeout_s: float = TIMEOUT_S) -> list[bytes]:
        """Return the bodies of answers with status 200 in time. Others are left out, and logged unless they start."""
        found = await asyncio.gather(*(self._ask(socket, path, timeout_s) for socket in self._sockets))
        return [body for body in found if body is not None]

    async def _ask(self, socket: str, path: str, timeout_s: float) -> bytes | None:
        request = f"GET {path} HTTP/1.1\r\nhost: ashore\r\nconnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(socket)
                try:
                    writer.write(request.encode())
                    answer = bytearray()
                    while len(answer) <= MAX_BYTES and (piece := await reader.read(PIECE_BYTES)):
                        answer += piece
                finally:
                    writer.close()
        except FileNotFoundError:  # it starts
            return None
        except (OSError, TimeoutError) as fault:
            log.warning("the process on %s did not answer %s: %s", socket, path, fault or "too slow")
            return None
        if len(answer) > MAX_BYTES:
            log.warning("the process on %s answered %s with more than %d bytes", socket, path, MAX_BYTES)
            return None
        head, _, body = bytes(answer).partition(b"\r\n\r\n")
        return body if head.startswith(b"HTTP/1.1 200 ") else None


class _Named(msgspec.Struct):
    model: str = ""


_named = msgspec.json.Decoder(_Named)


class HttpApp(Face):
    """HTTP in front of a `ServingService`."""

    def __init__(
        self,
        serving: ServingService,
        authenticator: Authenticator,
        metrics: Metrics,
        routes: Sequence[Route],
        *,
        limits: Limits,
        vllm_names: bool = True,
        number: int = 0,
        siblings: Siblings | None = None,
        relay: Relay | None = None,
        has_console: bool = False,
        **common: Any,
    ) -> None:
        """Create it.

        Args:
            serving: The request path.
            authenticator: Reads keys.
            metrics: Counts requests.
            routes: What it answers itself, but for those that `relay` takes.
            limits: Bounds of requests.
            vllm_names: Whether `/metrics` has vLLM's names, too.
            number: Index of this worker on the machine.
            siblings: The other processes of the machine whose figures stand on one page with those of this worker.
            relay: Passes requests on to the control process; None: there is none.
            has_console: Whether the first page links the console.
            common: The rest, as `Face` takes it.
        """
        own = [one for one in routes if relay is None or not relay.takes(one.path)]
        super().__init__(serving, authenticator, metrics, own, limits=limits, **common)
        self.serving: Final = serving
        self.vllm_names: Final = vllm_names
        self.number: Final = number
        self.siblings: Final = siblings or Siblings(())
        self.has_console: Final = has_console or self.console is not None
        self._relay = relay
        self._desk = self.rooms.find(JobDesk)
        self.making_metrics: dict[bool, asyncio.Task[bytes]] = {}
        """Pages of metrics that are being made: of this worker alone (True), of all."""

    @property
    def desk(self) -> JobDesk:
        """The job desk, for deferred work.

        Raises:
            NotReady: this server has no job queue.
        """
        if self._desk is None:
            raise NotReady("this server has no job queue", hint="start the server with `ashore up`")
        return self._desk

    async def _pass_on(self, exchange: Exchange) -> bool:
        if self._relay is None or not self._relay.takes(exchange.path):
            return False
        exchange.route = "control"
        await self._relay.pass_on(exchange, self.limits, whose=self.origin_of(exchange))
        return True

    async def _answer(self, route: Route, exchange: Exchange, principal: Principal) -> None:
        """Answer a repeated request by its bytes; otherwise call the handler, and remember what may repeat."""
        repeats = route.repeats and CACHE_HEADERS.isdisjoint(exchange.headers)
        if route.is_admitted:
            self.serving.reception.check_pressure(principal, may_be_kept=repeats)
            if route.repeats and not repeats and exchange.urgency == "interactive" and wants_no_store(exchange):
                self.serving.reception.check_room(principal)
        if not repeats:
            await self._handle(route, exchange, principal)
            return
        body = exchange.body_at_hand(self.limits)
        if body is None:
            body = await exchange.body(self.limits)
        key = self.serving.repeats.key(principal, route.path, body)
        repeated = self.serving.repeats.find(key, exchange.request_id, principal, arrival=exchange.arrival)
        if repeated is not None:
            ready, standing = repeated
            if self.serving.records_first:
                await self.serving.recorded()
            exchange.model = ready.alias[:64]
            if route.errors == "anthropic":
                exchange.extra_headers.append((b"request-id", exchange.request_id.encode()))
            age = cache_headers(ready.label, self.serving.repeats.age_s(ready))
            rates = standing_headers(standing)
            await exchange.respond(200, [*ready.headers, *age, *rates], ready.body)
            return
        await self._handle(route, exchange, principal)
        taken = exchange.taken
        if taken is not None and taken.whole:
            headers = tuple(
                pair for pair in taken.headers if pair[0] not in OF_THE_MOMENT and not pair[0].startswith(RATES)
            )
            self.serving.repeats.keep(
                key,
                taken.started,
                b"".join(taken.parts),
                headers,
                principal=principal,
                completion_tokens=exchange.tokens,
            )

    async def _handle(self, route: Route, exchange: Exchange, principal: Principal) -> None:
        """Call the handler. While the worker is overloaded, only if the queue of the model it names has room."""
        if route.is_admitted and self.serving.reception.pressed:
            self.serving.reception.check_queue(model_in(await exchange.body(self.limits)), principal)
        await route.handler(self, exchange, principal)

    async def _answer_fault(
        self, route: Route | None, exchange: Exchange, principal: Principal | None, fault: AshoreError
    ) -> None:
        if route is not None and route.deferrable and principal is not None and may_defer(exchange, fault):
            try:
                body = await exchange.body(self.limits)
                await defer(self.desk, exchange, principal, body, self.serving.read_aside)
                self.metrics.add("ashore_deferred", 1, route.path)
                return
            except AshoreError as other:
                fault = other
        await self.refuse(exchange, fault, errors_of(route, exchange))


def wants_no_store(exchange: Exchange) -> bool:
    """Return whether the client wants an answer that is neither stored nor read from the cache."""
    asked = exchange.headers.get(b"cache-control", b"").decode("latin-1")
    used = exchange.headers.get(b"x-ashore-cache", b"").decode("latin-1")
    return directive_of(asked, used).no_store


def model_in(body: bytes) -> str:
    """Return the model that a body names, ignoring everything else; empty if it names none."""
    try:
        return _named.decode(body).model
    except UNDECODABLE:
        return ""
