"""For whoever waits between the pieces of an answer: what is told meanwhile is held for him."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

from ashore.serving.model import Hear, ServingEvent, Usage


async def pulled(answer: Callable[[Hear], Coroutine[Any, Any, None]]) -> AsyncGenerator[ServingEvent, None]:
    """Yield what `answer` tells, at the reader's pace. Closing this cancels it, and returns when it has ended.

    Raises:
        AshoreError: it raised that, after all that was told.
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
    """Holds what is told of an answer until something is done, such as its beginning being on disk."""

    def __init__(self, hear: Hear) -> None:
        """Make it. `hear` is told all of it, and from then on everything at once."""
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
        """Return what an answer took that tells this. `until` is called with its first event, and awaited before that
        goes on.

        Raises:
            AshoreError: one of both raised it.
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
    """Return when a task has ended, which is cancelled where it still runs. What it raised was raised to its reader."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
