"""How far apart two answers are in what they say, for comparisons that nobody waits for."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ashore.cache.semantic.ports import Embedder

READ_CHARS: Final = 500
"""So much of each text is read: about a quarter of a second of one core."""


class MeaningDistance:
    """Cosine distances of texts, one pair at a time.

    It has a thread of its own, so that a question to the cache never waits behind it.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="distance")

    async def between(self, one: str, other: str) -> float:
        """Return 1 minus the cosine of two texts: 0 for the same meaning, about 0.25 for nothing in common (e5)."""
        texts = [one[:READ_CHARS], other[:READ_CHARS]]
        a, b = await asyncio.get_running_loop().run_in_executor(self._thread, self._embedder.embed, texts)
        return max(0.0, 1.0 - float(a @ b))

    def close(self) -> None:
        """Let the thread go. May be called twice."""
        self._thread.shutdown(wait=False, cancel_futures=True)
