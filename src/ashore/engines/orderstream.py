"""The events of one order on their way from the connection to whoever consumes them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self

from ashore.core import OrderId
from ashore.engines.model import EngineEvent
from ashore.errors import AshoreError


class Inbox:
    """Events of one order that its consumer has not taken yet."""

    __slots__ = ("ended", "error", "events", "waiter")

    def __init__(self) -> None:
        self.events: deque[EngineEvent] = deque()
        self.waiter: asyncio.Future[None] | None = None
        self.ended = False
        self.error: AshoreError | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class OrderStream(AsyncGenerator[EngineEvent, None]):
    """The events of one order, as an async iterator that ends after `Finished` or `Failed`.

    Closing it, losing it, or a cancellation of the task that waits on it cancels the order in the engine.
    """

    __slots__ = ("_abandon", "_inbox", "order_id")

    def __init__(self, order_id: OrderId, inbox: Inbox, abandon: Callable[[OrderId], None]) -> None:
        self.order_id = order_id
        self._inbox = inbox
        self._abandon = abandon

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EngineEvent:
        """Return the next event.

        Raises:
            HostDied: the host went away before the order ended.
        """
        inbox = self._inbox
        if not inbox.events:
            await self._wait()
        return inbox.events.popleft()

    async def asend(self, value: None) -> EngineEvent:
        """As `__anext__`; nothing can be sent into a stream."""
        return await self.__anext__()

    async def athrow(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> EngineEvent:
        """Give the order up and raise what was thrown."""
        self._give_up()
        raise kind

    async def take(self) -> list[EngineEvent]:
        """Return every event that is there, waiting for the first; empty at the end. One wake-up per step at most.

        Raises:
            HostDied: the host went away before the order ended.
        """
        inbox = self._inbox
        if not inbox.events:
            try:
                await self._wait()
            except StopAsyncIteration:
                return []
        events = list(inbox.events)
        inbox.events.clear()
        return events

    async def aclose(self) -> None:
        """Cancel the order if it still runs; returns at once. May be called twice."""
        self._give_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_up()

    def __del__(self) -> None:
        self._give_up()

    async def _wait(self) -> None:
        """Return once an event is there. Raises what ends the stream otherwise."""
        inbox = self._inbox
        while not inbox.events:
            if inbox.error is not None:
                raise inbox.error
            if inbox.ended:
                raise StopAsyncIteration
            inbox.waiter = asyncio.get_running_loop().create_future()
            try:
                await inbox.waiter
            except asyncio.CancelledError:
                self._give_up()
                raise
            finally:
                inbox.waiter = None

    def _give_up(self) -> None:
        if not self._inbox.ended:
            self._inbox.ended = True
            self._inbox.wake()
            self._abandon(self.order_id)


def ended_stream(order_id: OrderId, error: AshoreError) -> OrderStream:
    """Return a stream of an order that never reached a host: its first step raises `error`."""
    inbox = Inbox()
    inbox.ended = True
    inbox.error = error
    return OrderStream(order_id, inbox, _nothing_to_abandon)


def _nothing_to_abandon(order_id: OrderId) -> None:
    """What a stream that never reached a host cancels."""
