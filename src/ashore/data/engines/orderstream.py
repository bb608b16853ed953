"""The events of one order: pushed to a hearer, or read one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol, Self

from ashore.core.errors import AshoreError
from ashore.core.ids import OrderId
from ashore.data.engines.model import EngineEvent, Failed, Finished, GenerateOrder

CancelOrder = Callable[[], None]
"""Cancels an order where it still runs. May be called twice, and after its end."""


class OrderHearer(Protocol):
    """Receives the events of one order. Called in the turn of the loop in which they came; must not raise."""

    def hear(self, events: list[EngineEvent]) -> None:
        """Take the events of one frame, in order. `Finished` or `Failed` is the last event of all."""
        ...

    def lose(self, error: AshoreError) -> None:
        """Handle an order that ended without one. May be called while the order is being started.

        Args:
            error: `HostDied`: the host went away; `Draining`: it shut down in order before it began the order.
        """
        ...


class _Inbox:
    """Events that are not read yet."""

    __slots__ = ("ended", "error", "events", "reader")

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.ended = False
        self.error: AshoreError | None = None
        self.reader: asyncio.Future[None] | None = None
        """Future of a waiting reader."""

    def hear(self, events: list[EngineEvent]) -> None:
        self.events += events
        self.ended = self.ended or isinstance(events[-1], Finished | Failed)
        self.wake()

    def lose(self, error: AshoreError) -> None:
        self.error, self.ended = error, True
        self.wake()

    def wake(self) -> None:
        if self.reader is not None and not self.reader.done():
            self.reader.set_result(None)


class OrderStream(AsyncIterator[EngineEvent]):
    """The events of one order, as an async iterator that ends after `Finished` or `Failed`.

    Closing it, losing it, or a cancellation of the task that waits on it cancels the order in the engine.
    """

    __slots__ = ("_cancel", "_inbox", "order_id")

    def __init__(self, order: GenerateOrder, start: Callable[[GenerateOrder, OrderHearer], CancelOrder]) -> None:
        """Start the order and collect its events."""
        self.order_id: OrderId = order.order_id
        self._inbox = _Inbox()
        self._cancel = start(order, self._inbox)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EngineEvent:
        """Return the next event.

        Raises:
            HostDied: the host went away before the order ended.
            Draining: it shut down in order before it began the order.
        """
        if not await self._has_more():
            raise StopAsyncIteration
        return self._inbox.events.pop(0)

    async def take(self) -> list[EngineEvent]:
        """Return all events that have arrived, waiting for the first; empty at the end.

        Raises:
            HostDied: the host went away before the order ended.
            Draining: it shut down in order before it began the order.
        """
        await self._has_more()
        events, self._inbox.events = self._inbox.events, []
        return events

    async def aclose(self) -> None:
        """Cancel the order if it still runs; returns at once. May be called twice."""
        self._give_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._give_up()

    def __del__(self) -> None:
        self._give_up()

    async def _has_more(self) -> bool:
        """Return True once an event has arrived, False if the order ended. Raises the error that ends the stream
        otherwise."""
        inbox = self._inbox
        while not inbox.events:
            if inbox.error is not None:
                raise inbox.error
            if inbox.ended:
                return False
            inbox.reader = asyncio.get_running_loop().create_future()
            try:
                await inbox.reader
            except asyncio.CancelledError:
                self._give_up()
                raise
        return True

    def _give_up(self) -> None:
        if not self._inbox.ended:
            self._inbox.ended = True
            self._inbox.wake()
            self._cancel()
