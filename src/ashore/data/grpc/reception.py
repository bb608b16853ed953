"""Common path of every gRPC call: caller, metadata, and how errors become a status.

Every method is declared as streaming input, of which one message is read: gRPC reads the message of a unary method
before it calls it, and so before the key was checked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc

from ashore.core.errors import AshoreError, Bug, InvalidRequest, RequestTimeout, Unauthenticated
from ashore.core.hints import with_hint
from ashore.core.ids import RequestId, new_request_id
from ashore.core.outward import outward
from ashore.data.authority import Authenticator, Principal, denial_of
from ashore.data.cache import Directive, directive_of
from ashore.data.grpc.status import header_text, status_code, trailing_metadata
from ashore.data.origin import Origins, grpc_peer, origin_of
from ashore.data.path import Arrival, Limits
from ashore.data.precision import FALLBACK, MIN_PRECISION, may_fall_back, min_precision
from ashore.data.recording import LogRecorder
from ashore.data.trace import parent_of
from ashore.data.underway import NO_HOLD, Bodies, Hold, bodies_of
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import Recorder

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`; grpcio carries no types."""

log = logging.getLogger("ashore.grpc")

MAX_REQUEST_ID_CHARS = 128
KEY_NAMES = ("authorization", "x-api-key")


@dataclass(frozen=True, slots=True)
class Call:
    """Caller, message source and metadata of a call."""

    principal: Principal
    message: bytes
    """As it came."""
    request_id: RequestId
    directive: Directive
    arrival: Arrival
    min_precision: str = ""
    """That it wants its answer computed with at least."""
    fallback: bool = True
    """Whether another alias may answer."""
    hold: Hold = NO_HOLD
    """Counts its message, and its answer as long as it is made."""


COPIES: Final = 3
"""Copies of a message while gRPC reads it: the received pieces, the whole, and Python's."""


class CallReception:
    """Receives the calls of one gRPC server."""

    def __init__(
        self,
        authenticator: Authenticator,
        metrics: Metrics,
        *,
        limits: Limits | None = None,
        bodies: Bodies | None = None,
        recorder: Recorder | None = None,
        origins: Origins | None = None,
    ) -> None:
        """Create it. `recorder` receives refusals for the audit log; default: the log of this process."""
        self._limits = limits or Limits()
        self._bodies = bodies or bodies_of(self._limits)
        self._authenticator = authenticator
        self._metrics = metrics
        self._recorder = recorder or LogRecorder()
        self._origins = origins or Origins()

    @asynccontextmanager
    async def receive(self, context: Context, route: str) -> AsyncIterator[Call]:
        """Authenticate the caller of `/PACKAGE.SERVICE/METHOD`, read the message if it is allowed, turn errors into a
        status, and record the call.

        An answer cut short never ends as OK.
        """
        began_at = time.perf_counter()
        status = "CANCELLED"
        pairs = context.invocation_metadata() or ()
        metadata = {str(name): value for name, value in pairs}
        request_id = request_id_of(metadata)
        principal: Principal | None = None
        forwarded = str(metadata.get("x-forwarded-for", ""))
        origin = origin_of(grpc_peer(context.peer()), forwarded, trusted_proxies=self._origins.trusted_proxies)
        hold: Hold | None = None
        try:
            directive = directive_of(
                str(metadata.get("cache-control", "")).lower(), str(metadata.get("x-ashore-cache", ""))
            )
            floor = min_precision(str(metadata.get(MIN_PRECISION, "")))
            falls_back = may_fall_back(str(metadata.get(FALLBACK, "")))
            for name in KEY_NAMES:
                if sum(one == name for one, _ in pairs) > 1:
                    raise Unauthenticated(f"the call has more than one {name!r}", hint="send one key")
            token = token_of(metadata)
            principal = self._authenticator.authenticate(token, origin)
            hold = self._bodies.hold(principal.tenant, principal.id)
            message = await self._read(context, hold)
            principal = self._authenticator.authenticate(token, origin)  # the message may have been long on the way
            trace, parent = parent_of(str(metadata.get("traceparent", "")))
            arrival = Arrival(origin, route, trace=trace, traceparent=parent)
            yield Call(principal, message, request_id, directive, arrival, floor, falls_back, hold)
            status = "OK"
        except AshoreError as caught:
            act = denial_of(caught, principal, origin=origin, request_id=request_id)
            if act is not None:
                self._recorder.record(act)
            status = self._failed(caught)
            await fail(context, caught, request_id)
        except grpc.aio.BaseError:
            raise
        except Exception:  # outermost loop: log it, and end this call alone
            log.exception("request %s failed", request_id)
            bug = Bug(hint=f"report this with the log lines of request {request_id}")
            status = self._failed(bug)
            await fail(context, bug, request_id)
        finally:
            if hold is not None:
                hold.release()
            self._metrics.add("ashore_requests", 1, route, status)
            self._metrics.observe("ashore_request_seconds", time.perf_counter() - began_at, route)

    async def _read(self, context: Context, hold: Hold) -> bytes:
        """Return the message of a call.

        Its length is not known beforehand, and gRPC delivers it whole. So room for the longest allowed message is
        reserved while it is read; until there is some, the transport accepts only the window of its stream.

        Raises:
            InvalidRequest: the call ended without one.
            Overloaded: there was no room for it in time.
            RequestTimeout: it was not whole in time.
        """
        room = min(COPIES * self._limits.max_body_bytes, self._bodies.principal_bytes)
        await hold.grow_in_turn(room, self._limits.body_read_timeout_s)
        try:
            async with asyncio.timeout(self._limits.body_read_timeout_s):
                message = await context.read()
        except TimeoutError as fault:
            raise RequestTimeout(
                f"the message was not complete after {self._limits.body_read_timeout_s:g} s",
                hint="send the whole message without pausing",
            ) from fault
        if message is grpc.aio.EOF:
            raise InvalidRequest("the call has no message", hint="send one message")
        hold.shrink_to(len(message))
        return bytes(message)

    def _failed(self, fault: AshoreError) -> str:
        """Count an error and return the name of its status."""
        self._metrics.add("ashore_errors", 1, fault.code)
        return str(status_code(fault).name)


async def fail(context: Context, fault: AshoreError, request_id: RequestId) -> None:
    """End the call with the status of `fault`. Never returns: grpc raises to leave the handler."""
    if fault.http_status >= 500:
        log.warning("request %s: %s: %s", request_id, fault.code, fault.message)
    await context.abort(
        status_code(fault),
        with_hint(*outward(fault)),
        trailing_metadata=(("x-request-id", request_id), *trailing_metadata(fault)),
    )


def token_of(metadata: dict[str, str | bytes]) -> str | None:
    """Return the bare key: `authorization: Bearer KEY`, or `x-api-key: KEY`."""
    authorization = metadata.get("authorization")
    if isinstance(authorization, str):
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip() or None
    key = metadata.get("x-api-key")
    return key.strip() or None if isinstance(key, str) else None


def request_id_of(metadata: dict[str, str | bytes]) -> RequestId:
    """Return the client's `x-request-id` if it is short and printable, otherwise a new one."""
    given = metadata.get("x-request-id")
    if isinstance(given, str) and 0 < len(given) <= MAX_REQUEST_ID_CHARS and given == header_text(given):
        return RequestId(given)
    return new_request_id()


def decoded(kind: Any, raw: bytes) -> Any:
    """Decode a message of this kind from `raw`; protobuf carries no types.

    Raises:
        InvalidRequest: it cannot be decoded, or has too many parts.
    """
    from google.protobuf.message import DecodeError

    from ashore.data.grpc.wire import check_parts

    try:
        check_parts(raw, kind.DESCRIPTOR)
        return kind.FromString(raw)
    except DecodeError as fault:
        raise InvalidRequest(
            f"the body is not a valid {kind.DESCRIPTOR.full_name}: {fault}",
            hint="use the messages of package ashore.v1",
        ) from fault
