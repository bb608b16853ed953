"""The service `ashore.v1.Inference`: parse, call, render; errors become status codes."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias

import grpc

from ashore.access import Authenticator, Principal
from ashore.api.grpc.gen import inference_pb2 as pb
from ashore.api.grpc.gen import inference_pb2_grpc
from ashore.api.grpc.parse import chat_request, complete_request, embed_inputs
from ashore.api.grpc.render import answer_event, embed_response, models_response, whole_answer
from ashore.api.grpc.status import header_text, status_code, trailing_metadata
from ashore.core import RequestId, new_request_id
from ashore.errors import AshoreError, Bug
from ashore.metrics import Metrics
from ashore.serving import GenerationRequest, ServingEvent, ServingService, Started

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`; grpcio carries no types."""

log = logging.getLogger("ashore.grpc")

MAX_REQUEST_ID_CHARS = 128

SERVICE = "/ashore.v1.Inference/"


class InferenceService(inference_pb2_grpc.InferenceServicer):
    """Every method runs in the API worker's own event loop."""

    def __init__(self, serving: ServingService, authenticator: Authenticator, metrics: Metrics) -> None:
        self._serving = serving
        self._authenticator = authenticator
        self._metrics = metrics

    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.Answer:
        async with self._call(context, "Chat") as (principal, request_id):
            parsed = chat_request(request, request_id=request_id, deadline_s=context.time_remaining())
            return await self._whole(parsed, principal, context)
        raise AssertionError("unreachable")

    async def ChatStream(self, request: pb.ChatRequest, context: Context) -> AsyncIterator[pb.AnswerEvent]:
        async with self._call(context, "ChatStream") as (principal, request_id):
            parsed = chat_request(request, request_id=request_id, deadline_s=context.time_remaining())
            async with aclosing(self._events(parsed, principal, context)) as events:
                async for event in events:
                    yield answer_event(event, request_id)

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.Answer:
        async with self._call(context, "Complete") as (principal, request_id):
            parsed = complete_request(request, request_id=request_id, deadline_s=context.time_remaining())
            return await self._whole(parsed, principal, context)
        raise AssertionError("unreachable")

    async def CompleteStream(self, request: pb.CompleteRequest, context: Context) -> AsyncIterator[pb.AnswerEvent]:
        async with self._call(context, "CompleteStream") as (principal, request_id):
            parsed = complete_request(request, request_id=request_id, deadline_s=context.time_remaining())
            async with aclosing(self._events(parsed, principal, context)) as events:
                async for event in events:
                    yield answer_event(event, request_id)

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        async with self._call(context, "Embed") as (principal, _):
            dimensions = request.dimensions if request.HasField("dimensions") else None
            inputs = embed_inputs(request.inputs)
            embedding = await self._serving.embed(
                request.model, inputs, principal, dimensions=dimensions, deadline_s=context.time_remaining()
            )
            return embed_response(embedding)
        raise AssertionError("unreachable")

    async def Models(self, request: pb.ModelsRequest, context: Context) -> pb.ModelsResponse:
        async with self._call(context, "Models"):
            return models_response(self._serving.models())
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _call(self, context: Context, method: str) -> AsyncIterator[tuple[Principal, RequestId]]:
        """Find out who asks, turn what goes wrong inside into a status, and note what happened.

        An answer cut short never ends as OK.
        """
        began_at = time.perf_counter()
        status = "CANCELLED"
        metadata = {str(name): value for name, value in context.invocation_metadata() or ()}
        request_id = request_id_of(metadata)
        try:
            yield self._authenticator.authenticate(token_of(metadata)), request_id
            status = "OK"
        except AshoreError as caught:
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
            route = SERVICE + method
            self._metrics.add("ashore_requests", 1, route, status)
            self._metrics.observe("ashore_request_seconds", time.perf_counter() - began_at, route)

    def _failed(self, fault: AshoreError) -> str:
        """Count an error and return the name of its status."""
        self._metrics.add("ashore_errors", 1, fault.code)
        return str(status_code(fault).name)

    async def _events(
        self, request: GenerationRequest, principal: Principal, context: Context
    ) -> AsyncGenerator[ServingEvent, None]:
        """Yield the events of an answer; the metadata goes out with the first."""
        async with aclosing(self._serving.generate(request, principal)) as events:
            async for event in events:
                if isinstance(event, Started):
                    await context.send_initial_metadata(
                        (
                            ("x-request-id", request.request_id),
                            ("x-ashore-release", header_text(event.release)),
                            ("x-ashore-precision", header_text(event.precision)),
                        )
                    )
                yield event

    async def _whole(self, request: GenerationRequest, principal: Principal, context: Context) -> pb.Answer:
        return whole_answer([e async for e in self._events(request, principal, context)], request.request_id)


async def fail(context: Context, fault: AshoreError, request_id: RequestId) -> None:
    """End the call with the status of `fault`. Never returns: grpc raises to leave the handler."""
    if fault.http_status >= 500:
        log.warning("request %s: %s: %s", request_id, fault.code, fault.message)
    await context.abort(
        status_code(fault),
        fault.message,
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
