"""Buffers pushed events for a consumer that pulls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

from ashore.data.path.model import Hear, ServingEvent, Usage


async def pulled(answer: Callable[[Hear], Coroutine[Any, Any, None]]) -> AsyncGenerator[ServingEvent, None]:
    """Yield the events of `answer` at the reader's pace. Closing this cancels it, and returns when it has ended.

    Raises:
        AshoreError: `answer` raised it; all earlier events were yielded first.
    """
    told: deque[ServingEvent] = deque()
    news = asyncio.Event()

    def hear(event: ServingEvent) -> None:
        told.append(event)
        news.set()

    task = asyncio.get_running_loop().create_task(answer(hear))
    task.add_done_callback(lambda _: news.set())
    try:
        while told or not task.done():
            if told:
                yield told.popleft()
            else:
                news.clear()
                await news.wait()
        await task
    finally:
        await _end(task)


class Dam:
    """Holds the events of an answer back until a condition is met, such as its beginning being on disk."""

    def __init__(self, hear: Hear) -> None:
        """Create the barrier. `hear` gets all held events on release, and later ones at once."""
        self._hear = hear
        self._held: list[ServingEvent] | None = []
        self._news = asyncio.Event()

    def hear(self, event: ServingEvent) -> None:
        """Take the next event."""
        if self._held is None:
            self._hear(event)
        else:
            self._held.append(event)
            self._news.set()

    async def hold(self, answer: Coroutine[Any, Any, Usage], until: Callable[[], Awaitable[None]]) -> Usage:
        """Run the answer and return its usage. `until` is called with its first event, and awaited before that is
        released.

        Raises:
            AshoreError: the answer or `until` raised it.
        """
        task = asyncio.get_running_loop().create_task(answer)
        task.add_done_callback(lambda _: self._news.set())
        try:
            await self._news.wait()
            if self._held:
                await until()
                held, self._held = self._held, None
                for event in held:
                    self._hear(event)
            return await task
        finally:
            await _end(task)


async def _end(task: asyncio.Task[Any]) -> None:
    """Wait until a task has ended, cancelling it if it still runs. Its exception was already raised to its reader."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
