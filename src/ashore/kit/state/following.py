"""Keeps what a process holds of long data as the state has it, read elsewhere than on the thread of the watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from ashore.core.errors import AshoreError

RETRY_S: Final = 1.0
"""Pause after the state could not be read."""

log = logging.getLogger("ashore.worker")


class Following:
    """Reads something again after each change of an epoch. Created on the event loop of the process."""

    def __init__(self, kind: str, read: Callable[[], None], what: str) -> None:
        """Args:
        kind: The epoch.
        read: Reads it once. Blocks; runs on a thread of its own. Raises AshoreError if the state cannot be read.
        what: Its name in the log, `the guard lists`.
        """
        self._kind, self._read, self._what = kind, read, what
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()

    def heed(self, kind: str, value: int) -> None:
        """Take news of the watch, on its thread. Long data takes seconds to read, and a revoked key does not wait."""
        if kind == self._kind:
            self._loop.call_soon_threadsafe(self._news.set)

    async def keep_reading(self) -> None:
        """Read after each change, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await asyncio.to_thread(self._read)
            except AshoreError as fault:
                log.warning("cannot read %s, so the old ones stay in force: %s", self._what, fault.in_one_line)
                await asyncio.sleep(RETRY_S)
                self._news.set()
