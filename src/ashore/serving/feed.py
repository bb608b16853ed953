"""Events of all sequences of one request, in one place, as they come: what is ready together is taken together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ashore.engines import EngineEvent, Failed, Finished, GenerateOrder
from ashore.errors import AshoreError, DeadlineExceeded, EngineFailed
from ashore.serving.ports import OrderEvents, StartsOrders


class Feed:
    """Runs the orders of one request on one replica. One reader; closing it cancels what still runs.

    A single order is read straight from its stream. Several are gathered by one task each.
    """

    def __init__(
        self,
        replica: StartsOrders,
        orders: Sequence[GenerateOrder],
        *,
        within_s: float,
        silence_s: float,
        made: Callable[[], int] | None = None,
    ) -> None:
        """Start the orders.

        Args:
            replica: Where.
            orders: Of one request.
            within_s: Seconds from now after which it is over.
            silence_s: The answer goes on past that while more is made within so long, as `made` tells.
            made: Tells how many tokens there are; None: what is over is over.
        """
        self._streams = [replica.generate(order) for order in orders]
        self._ready: list[tuple[int, list[EngineEvent]]] = []
        self._error: AshoreError | None = None
        self._wake: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._made, self._seen, self._silence_s = made, 0, silence_s
        self._alarm = asyncio.get_running_loop().call_later(within_s, self._expire)
        if len(orders) > 1:
            for choice, stream in enumerate(self._streams):
                self._spawn(self._gather(choice, stream))

    async def take(
        self, pour: Callable[[list[EngineEvent]], bool] | None = None
    ) -> list[tuple[int, list[EngineEvent]]]:
        """Return the events that came since the last call, at least one, in groups with the index of their order.

        Args:
            pour: Takes tokens of a single order where they come, as in `OrderEvents.take`. Several have none.

        Raises:
            HostDied: the replica is gone.
            DeadlineExceeded: the deadline passed.
            EngineFailed: the stream ended although the answer was not whole.
        """
        if len(self._streams) == 1:
            events = await self._streams[0].take(pour)
            if not events:
                raise self._error or broke_off()
            return [(0, events)]
        while not self._ready:
            if self._error is not None:
                raise self._error
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        ready, self._ready = self._ready, []
        return ready

    def end(self, choice: int) -> None:
        """Cancel one order. The reader asks for nothing more of it."""
        self._spawn(self._streams[choice].aclose())

    async def close(self) -> None:
        """Cancel what still runs. May be called twice."""
        self._alarm.cancel()
        for stream in self._streams:
            await stream.aclose()
        for task in list(self._tasks):
            task.cancel()

    async def _gather(self, choice: int, stream: OrderEvents) -> None:
        try:
            while events := await stream.take():
                self._ready.append((choice, events))
                self._rouse()
                if isinstance(events[-1], Finished | Failed):
                    return
        except AshoreError as fault:
            self._error = self._error or fault
            self._rouse()

    def stop(self, error: AshoreError) -> None:
        """Cancel every order; the reader gets `error`, unless something went wrong before."""
        self._error = self._error or error
        for choice in range(len(self._streams)):
            self.end(choice)
        self._rouse()

    def _expire(self) -> None:
        if self._made is not None and (made := self._made()) > self._seen:
            self._seen = made
            self._alarm = asyncio.get_running_loop().call_later(self._silence_s, self._expire)
            return
        self.stop(too_late("the deadline passed before the answer was whole"))

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def too_late(message: str) -> DeadlineExceeded:
    """Return the error of an answer whose deadline passed."""
    return DeadlineExceeded(
        message,
        hint="ask for fewer tokens, or give it a later deadline: `x-ashore-deadline-ms` of the request, or "
        "`default_deadline_s` of [admission] in ashore.toml where the request has none",
    )


def broke_off() -> EngineFailed:
    """Return the error for a stream that ended too early."""
    return EngineFailed("the engine host stopped sending before the answer was whole", hint="send it again")
