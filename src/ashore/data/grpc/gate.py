"""Calls without a key (health and reflection): limits on their size and number."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

import grpc

Context: TypeAlias = Any
"""`grpc.aio.ServicerContext`; grpcio carries no types."""

OPEN: Final = ("/grpc.health.", "/grpc.reflection.")
MOST_READ: Final = 3
"""Messages without a key that are read at once. gRPC takes each up to its limit on length, 16 MiB."""
READ_S: Final = 2.0
"""Time-out for reading one. A regular client sends it with its head."""
MOST_OPEN: Final = 256
"""Streams without a key at once. One more ends the oldest: those who hold them keep nobody else out."""


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Reads the messages of open methods, a few at a time, and bounds their streams: one above a limit ends the
    oldest."""

    def __init__(self) -> None:
        self._reading: OrderedDict[asyncio.Future[Any], None] = OrderedDict()
        self._open: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call; for an open method, one that starts before its message is read."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(OPEN):
            return handler
        read, write = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary is not None:

            async def answer(_: object, context: Context) -> Any:
                return await handler.unary_unary(await self._first(context, read), context)

            return grpc.stream_unary_rpc_method_handler(answer, None, write)

        async def stream(context: Context) -> None:
            if handler.unary_stream is not None:
                await handler.unary_stream(await self._first(context, read), context)
                return
            async for one in handler.stream_stream(self._all(context, read), context):
                await context.write(one)

        async def answers(_: object, context: Context) -> None:
            await self._bounded(context, stream(context))

        return grpc.stream_stream_rpc_method_handler(answers, None, write)

    async def _bounded(self, context: Context, stream: Coroutine[Any, Any, None]) -> None:
        work = asyncio.ensure_future(stream)
        self._open[work] = None
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[0].cancel()
        try:
            await asyncio.wait((work,))
        finally:
            self._open.pop(work, None)
            work.cancel()
        if work.cancelled():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams without an API key; open again")
        work.result()

    async def _first(self, context: Context, read: Callable[[bytes], Any]) -> Any:
        message = await self._message(context)
        if message is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call has no message; send one")
        return read(message)  # type: ignore[arg-type]

    async def _all(self, context: Context, read: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        while (message := await self._message(context)) is not None:
            yield read(message)

    async def _message(self, context: Context) -> bytes | None:
        """Return the next message, None after the last one."""
        reading = asyncio.ensure_future(context.read())
        self._reading[reading] = None
        if len(self._reading) > MOST_READ:
            self._reading.popitem(last=False)[0].cancel()
        try:
            done, _ = await asyncio.wait((reading,), timeout=READ_S)
        finally:
            self._reading.pop(reading, None)
            reading.cancel()
        if not done or reading.cancelled():
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "the message did not arrive in time; send it together with the request headers",
            )
        message = reading.result()
        return None if message is grpc.aio.EOF else bytes(message)
