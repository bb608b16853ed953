"""The events of one order on their way from the connection to whoever consumes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import Context
from types import TracebackType
from typing import Any, Self

from ashore.core import OrderId
from ashore.engines.model import EngineEvent
from ashore.errors import AshoreError

Pour = Callable[[list[EngineEvent]], bool]
"""Takes tokens of one order where they come; returns whether it did."""


class Inbox:
    """Events of one order that its consumer has not taken yet. One task at a time may await that some come.

    To asyncio it is a future (`_asyncio_future_blocking` is how a task knows one, and says how to go on to
    `add_done_callback`), but one that whoever brings events can have its task go on from at once: a future of asyncio's
    own would cost a callback, a handle and a turn of the loop for each token of each stream.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_cancelled",
        "_context",
        "_loop",
        "_step",
        "ended",
        "error",
        "events",
        "pour",
    )

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.ended = False
        self.error: Exception | None = None
        self.pour: Pour | None = None
        """Of the task that waits."""
        self._asyncio_future_blocking = False
        self._loop = asyncio.get_running_loop()
        self._step: Callable[[Inbox], object] | None = None
        """Has the task that waits go on."""
        self._context = Context()
        self._cancelled = False

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits."""
        return self._step is not None

    def go_on(self) -> None:
        """Have the task that waits go on before this returns, unless it takes what has come without being woken. Never
        called from within a task."""
        if self._step is None or (self.pour is not None and not self.ended and self._is_poured(self.pour)):
            return
        step, self._step = self._step, None
        self._context.run(step, self)

    def wake(self) -> None:
        """Have the task that waits go on in the next turn of the loop."""
        step, self._step = self._step, None
        if step is not None:
            self._loop.call_soon(step, self, context=self._context)

    def _is_poured(self, pour: Pour) -> bool:
        try:
            if not pour(self.events):
                return False
            self.events = []
            return True
        except Exception as fault:  # noqa: BLE001 - of whoever waits: raised there, and not for other orders of the frame
            self.events, self.error = [], fault
            return False

    # What a task asks of a future

    def __await__(self) -> Generator[Any, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def add_done_callback(self, step: Callable[[Inbox], object], *, context: Context) -> None:
        """Note how the task that waits goes on."""
        self._step, self._context = step, context

    def cancel(self, msg: object = None) -> bool:
        """Have the task that waits end in the next turn; False: it goes on already."""
        self._cancelled = self.is_awaited
        self.wake()
        return self._cancelled

    def result(self) -> None:
        """Return, for a task that goes on.

        Raises:
            CancelledError: it was cancelled.
        """
        if self._cancelled:
            self._cancelled = False
            raise asyncio.CancelledError


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
            Draining: it ended of its own accord before it began the order.
        """
        if not await self._has_more():
            raise StopAsyncIteration
        return self._inbox.events.pop(0)

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

    async def take(self, pour: Pour | None = None) -> list[EngineEvent]:
        """Return every event that is there, waiting for the first; empty at the end. One wake-up per step at most.

        Args:
            pour: Called with the tokens of a step as they come, instead of waking who waits; True: it took all of them,
                and the wait goes on. Never with what ends the order.

        Raises:
            HostDied: the host went away before the order ended.
            Draining: it ended of its own accord before it began the order.
        """
        inbox = self._inbox
        if not inbox.events:
            inbox.pour = pour
            await self._has_more()
        events, inbox.events = inbox.events, []
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

    async def _has_more(self) -> bool:
        """Return True once an event is there, False where the order ended. Raises what ends the stream otherwise."""
        inbox = self._inbox
        while not inbox.events:
            if inbox.error is not None:
                raise inbox.error
            if inbox.ended:
                return False
            try:
                await inbox
            except asyncio.CancelledError:
                self._give_up()
                raise
        return True

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
