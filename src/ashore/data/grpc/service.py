"""The service `ashore.v1.Inference`: parse, call, render."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Final, Protocol, TypeVar

import grpc
from msgspec.structs import replace

from ashore.core.ids import RequestId
from ashore.data.authority import Principal
from ashore.data.authority.budgets import Standing, rate_headers
from ashore.data.bounds import check_streamed_echo
from ashore.data.cache import Directive
from ashore.data.grpc.gen import inference_pb2 as pb
from ashore.data.grpc.parse import chat_request, complete_request, embed_inputs
from ashore.data.grpc.reception import Call, CallReception, Context, decoded
from ashore.data.grpc.render import answer_event, embed_response, models_response, whole_answer
from ashore.data.grpc.status import header_text
from ashore.data.path import ChoiceEnded, GenerationRequest, ServingEvent, ServingService, Started, Usage
from ashore.data.precision import FALLBACK
from ashore.data.underway import logprob_bytes

SERVICE = "/ashore.v1.Inference/"

W = TypeVar("W")
Wire = TypeVar("Wire", contravariant=True)
R = TypeVar("R")
EVENT_CHARS: Final = 16
"""An event of a whole answer takes as long to write as so many characters of a prompt to read; so does each
alternative to its token."""


class Parse(Protocol[Wire]):
    """Makes the request of a message."""

    def __call__(self, wire: Wire, /, *, request_id: RequestId, deadline_s: float | None) -> GenerationRequest: ...


PLAIN = Directive()
CLAMPED = "x-ashore-clamped"


class InferenceService:
    """Every method runs in the API worker's own event loop."""

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the methods. All take bytes; Chat and Complete return bytes, the others messages."""
        whole, pieces = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        answers = {
            "Chat": whole(self.Chat),
            "Complete": whole(self.Complete),
            "ChatStream": pieces(self.ChatStream, None, pb.AnswerEvent.SerializeToString),
            "CompleteStream": pieces(self.CompleteStream, None, pb.AnswerEvent.SerializeToString),
            "Embed": whole(self.Embed, None, pb.EmbedResponse.SerializeToString),
            "Models": whole(self.Models, None, pb.ModelsResponse.SerializeToString),
        }
        return grpc.method_handlers_generic_handler(SERVICE.strip("/"), answers)

    def __init__(self, serving: ServingService, reception: CallReception) -> None:
        self._serving = serving
        self._reception = reception

    async def Chat(self, _: object, context: Context) -> bytes:
        """Bytes to bytes: a repeated request is answered without being parsed."""
        async with self._reception.receive(context, SERVICE + "Chat") as call:
            return await self._unary(call, context, "Chat", pb.ChatRequest, chat_request)
        raise AssertionError("unreachable")

    async def ChatStream(self, _: object, context: Context) -> AsyncIterator[pb.AnswerEvent]:
        async with self._reception.receive(context, SERVICE + "ChatStream") as call:
            parsed = await self._parsed(call, context, pb.ChatRequest, chat_request)
            async with aclosing(self._events(parsed, call.principal, context)) as events:
                async for event in events:
                    yield answer_event(event, call.request_id)

    async def Complete(self, _: object, context: Context) -> bytes:
        async with self._reception.receive(context, SERVICE + "Complete") as call:
            return await self._unary(call, context, "Complete", pb.CompleteRequest, complete_request)
        raise AssertionError("unreachable")

    async def CompleteStream(self, _: object, context: Context) -> AsyncIterator[pb.AnswerEvent]:
        async with self._reception.receive(context, SERVICE + "CompleteStream") as call:
            parsed = await self._parsed(call, context, pb.CompleteRequest, complete_request)
            if parsed.echo and parsed.top_logprobs is not None:
                check_streamed_echo(parsed.prompt or "")
            async with aclosing(self._events(parsed, call.principal, context)) as events:
                async for event in events:
                    yield answer_event(event, call.request_id)

    async def Embed(self, _: object, context: Context) -> pb.EmbedResponse:
        async with self._reception.receive(context, SERVICE + "Embed") as call:
            request, inputs = await self._read(call, pb.EmbedRequest, lambda wire: embed_inputs(wire.inputs))
            dimensions = request.dimensions if request.HasField("dimensions") else None
            embedding = await self._serving.embeddings.embed(
                request.model,
                inputs,
                call.principal,
                request_id=call.request_id,
                dimensions=dimensions,
                deadline_s=context.time_remaining(),
                arrival=call.arrival,
                room=call.hold.make_room,
            )
            standing = self._serving.standing(call.principal, request.model)
            await context.send_initial_metadata((("x-request-id", call.request_id), *_standing(standing)))
            render = partial(embed_response, embedding)
            return await self._serving.at_length(embedding.num_chars, render, call.principal)
        raise AssertionError("unreachable")

    async def Models(self, _: object, context: Context) -> pb.ModelsResponse:
        async with self._reception.receive(context, SERVICE + "Models") as call:
            return models_response(self._serving.models(call.principal))
        raise AssertionError("unreachable")

    async def _unary(self, call: Call, context: Context, method: str, kind: type[W], parse: Parse[W]) -> bytes:
        """Answer a repeated request by its bytes; otherwise parse, call, render, remember."""
        repeats = call.directive == PLAIN and not call.min_precision
        key = self._serving.repeats.key(call.principal, SERVICE + method, call.message) if repeats else b""
        repeated = (
            self._serving.repeats.find(key, call.request_id, call.principal, arrival=call.arrival) if repeats else None
        )
        if repeated is not None:
            ready, standing = repeated
            await self._serving.recorded()
            age_s = self._serving.repeats.age_s(ready)
            await context.send_initial_metadata(
                (
                    ("x-request-id", call.request_id),
                    *((name.decode(), value.decode()) for name, value in ready.headers),
                    ("x-ashore-cache", ready.label),
                    ("age", str(age_s)),
                    *_standing(standing),
                )
            )
            return ready.body
        request = await self._parsed(call, context, kind, parse)
        events: list[ServingEvent] = []
        async with aclosing(self._events(request, call.principal, context)) as coming:
            async for event in coming:
                call.hold.grow_answer(logprob_bytes(event))
                events.append(event)
        length = len(events) * EVENT_CHARS * (1 + (request.top_logprobs or 0))
        render = partial(whole_answer, events, request.request_id)
        answer = await self._serving.at_length(length, lambda: bytes(render().SerializeToString()), call.principal)
        started, usage = events[0], events[-1]
        if repeats and isinstance(started, Started) and started.good_until_s and isinstance(usage, Usage):
            self._serving.repeats.keep(
                key,
                started,
                answer,
                tuple((name.encode(), value.encode()) for name, value in _answered(started)),
                principal=call.principal,
                completion_tokens=usage.completion_tokens,
            )
        return answer

    async def _read(self, call: Call, kind: type[W], make: Callable[[W], R]) -> tuple[W, R]:
        """Return the message of a call and the result of `make` on it; a long one is read on a thread."""

        def work() -> tuple[W, R]:
            wire: W = decoded(kind, call.message)
            return wire, make(wire)

        return await self._serving.at_length(len(call.message), work, call.principal)

    async def _parsed(self, call: Call, context: Context, kind: type[W], parse: Parse[W]) -> GenerationRequest:
        """Return the request of a call, with the options of its metadata."""
        make = partial(parse, request_id=call.request_id, deadline_s=context.time_remaining())
        request = (await self._read(call, kind, make))[1]
        return replace(
            request,
            cache=call.directive,
            arrival=call.arrival,
            min_precision=call.min_precision,
            fallback=call.fallback,
        )

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
                            *_answered(event),
                            ("x-ashore-cache", event.cache),
                            *((("age", str(event.age_s)),) if event.cache != "miss" else ()),
                            *_standing(event.standing),
                        )
                    )
                elif isinstance(event, ChoiceEnded) and event.cut_by:
                    context.set_trailing_metadata((("x-ashore-cut-by", event.cut_by),))
                yield event


def _answered(started: Started) -> tuple[tuple[str, str], ...]:
    """Return the metadata that names what answered, equal for all repeats of the request."""
    clamped = ((CLAMPED, f"max_tokens={started.clamped_to}"),) if started.clamped_to else ()
    return (
        ("x-ashore-release", header_text(started.release)),
        ("x-ashore-precision", header_text(started.precision)),
        *clamped,
        *(((FALLBACK, header_text(started.fallback)),) if started.fallback else ()),
    )


def _standing(standing: Standing | None) -> tuple[tuple[str, str], ...]:
    return () if standing is None else rate_headers(standing)
