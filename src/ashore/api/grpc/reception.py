"""What every gRPC call has in common: who calls, what its metadata says, and how what goes wrong becomes a status."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from ashore.access import Authenticator, Principal, denial_of
from ashore.api.grpc.status import header_text, status_code, trailing_metadata
from ashore.api.origin import Origins, grpc_peer
from ashore.api.recording import LogRecorder
from ashore.api.told import told
from ashore.cache import Directive, directive_of
from ashore.core import Recorder, RequestId, new_request_id
from ashore.errors import AshoreError, Bug
from ashore.metrics import Metrics
from ashore.serving import Arrival

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`; grpcio carries no types."""

log = logging.getLogger("ashore.grpc")

MAX_REQUEST_ID_CHARS = 128


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and what its metadata says."""

    principal: Principal
    request_id: RequestId
    directive: Directive
    arrival: Arrival
    token: str | None


class CallReception:
    """Receives the calls of one gRPC server."""

    def __init__(
        self,
        authenticator: Authenticator,
        metrics: Metrics,
        *,
        recorder: Recorder | None = None,
        origins: Origins | None = None,
    ) -> None:
        """Make it. `recorder` is told of refusals that an auditor must find; default: the log of this process."""
        self._authenticator = authenticator
        self._metrics = metrics
        self._recorder = recorder or LogRecorder()
        self._origins = origins or Origins()

    @asynccontextmanager
    async def receive(self, context: Context, route: str) -> AsyncIterator[Call]:
        """Find out who calls `/PACKAGE.SERVICE/METHOD`, turn what goes wrong inside into a status, and note what
        happened.

        An answer cut short never ends as OK.
        """
        began_at = time.perf_counter()
        status = "CANCELLED"
        metadata = {str(name): value for name, value in context.invocation_metadata() or ()}
        request_id = request_id_of(metadata)
        principal: Principal | None = None
        forwarded = str(metadata.get("x-forwarded-for", ""))
        origin = self._origins.of(grpc_peer(context.peer()), forwarded)
        try:
            directive = directive_of(
                str(metadata.get("cache-control", "")).lower(), str(metadata.get("x-ashore-cache", ""))
            )
            token = token_of(metadata)
            principal = self._authenticator.authenticate(token, origin)
            yield Call(principal, request_id, directive, Arrival(origin, route), token)
            status = "OK"
        except AshoreError as caught:
            act = denial_of(caught, principal, origin=origin, request_id=request_id)
            if act is not None:
                self._recorder.record(act)
            status = self._failed(caught)
            await fail(context, caught, request_id)
        except grpc.aio.BaseError:
            raise
        except Exception:  # outermost loop: show it, and end this call alone
            log.exception("request %s failed", request_id)
            bug = Bug(hint=f"report it with the log lines of {request_id}")
            status = self._failed(bug)
            await fail(context, bug, request_id)
        finally:
            self._metrics.add("ashore_requests", 1, route, status)
            self._metrics.observe("ashore_request_seconds", time.perf_counter() - began_at, route)

    def again(self, call: Call) -> Principal:
        """Return who makes a call that goes on for long, as things stand now.

        Raises:
            Unauthenticated: its key opens nothing any more.
        """
        return self._authenticator.authenticate(call.token, call.arrival.origin)

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
        told(fault)[0],
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
    """Return the client's own `x-request-id` where it is short and printable, otherwise a fresh one."""
    given = metadata.get("x-request-id")
    if isinstance(given, str) and 0 < len(given) <= MAX_REQUEST_ID_CHARS and given == header_text(given):
        return RequestId(given)
    return new_request_id()
