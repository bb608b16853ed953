"""Events of all sequences of one request, in one place, as they come: what is ready together is taken together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ashore.engines import EngineEvent, Failed, Finished, GenerateOrder
from ashore.errors import AshoreError, DeadlineExceeded, EngineFailed
from ashore.serving.ports import Replica


class Feed:
    """Runs the orders of one request on one replica. One reader; closing it cancels what still runs."""

    def __init__(self, replica: Replica, orders: Sequence[GenerateOrder], *, deadline_at: float) -> None:
        """Start the orders. `deadline_at` is in seconds of the event loop's clock."""
        loop = asyncio.get_running_loop()
        self._ready: list[tuple[int, EngineEvent]] = []
        self._error: AshoreError | None = None
        self._wake: asyncio.Future[None] | None = None
        self._alarm = loop.call_at(deadline_at, self._expire)
        self._tasks = [
            loop.create_task(self._run(replica, choice, order), name=f"order {order.order_id}")
            for choice, order in enumerate(orders)
        ]

    async def take(self) -> list[tuple[int, EngineEvent]]:
        """Return the events that came since the last call, at least one, each with the index of its order.

        Raises:
            HostDied: the replica is gone.
            DeadlineExceeded: the deadline passed; what had come before was returned before.
        """
        while not self._ready:
            if self._error is not None:
                raise self._error
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        ready, self._ready = self._ready, []
        return ready

    def end(self, choice: int) -> None:
        """Cancel one order; nothing more comes from it."""
        self._tasks[choice].cancel()

    async def close(self) -> None:
        """Cancel what still runs. May be called twice."""
        self._alarm.cancel()
        running = [task for task in self._tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _run(self, replica: Replica, choice: int, order: GenerateOrder) -> None:
        events = replica.generate(order)
        ended = False
        try:
            async for event in events:
                ended = isinstance(event, Finished | Failed)
                self._ready.append((choice, event))
                self._rouse()
            if not ended:
                raise EngineFailed("the engine host stopped sending before the answer was whole")
        except AshoreError as fault:
            self._error = fault
            self._rouse()
        finally:
            await events.aclose()

    def _expire(self) -> None:
        self._error = DeadlineExceeded(
            "the deadline passed before the answer was whole", hint="ask for fewer tokens, or give it a later deadline"
        )
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
