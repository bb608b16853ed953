"""What the cache needs: numbers that say "look again", a tier that processes share, and matching by meaning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ashore.cache.model import Pair, Question


class Epochs(Protocol):
    """Numbers by kind, kept by `state`. Reading one costs no I/O."""

    def get(self, kind: str) -> int:
        """Return the number of this kind as last seen, 0 for one that was never raised."""
        ...


class SharedTier(Protocol):
    """Bytes by key that several processes see. `valkey.ValkeyTier` is one; `memory.MemoryTier` is its twin.

    It is a cache: it may forget anything at any time, and must never hold anybody up.
    """

    @property
    def up(self) -> bool:
        """Whether it answered last time."""
        ...

    async def get(self, key: bytes) -> bytes | None:
        """Return the value, or None where there is none or the tier is slow or gone. Never raises, never waits long."""
        ...

    def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Keep a value for a while. Returns at once; what cannot be kept is dropped."""
        ...

    async def close(self) -> None:
        """Write what is queued for a moment, and disconnect. May be called twice."""
        ...


class SemanticTier(Protocol):
    """Finds the entry whose question means the same."""

    @property
    def num_entries(self) -> int: ...
    @property
    def num_bytes(self) -> int: ...

    async def find(self, question: Question) -> bytes | None:
        """Return the key of an entry that answers `question` within its error bound, or None."""
        ...

    async def find_curated(self, question: Question) -> Pair | None:
        """Return the imported pair whose question means the same, or None."""
        ...

    async def add(self, question: Question, answer_text: str) -> None:
        """Remember a question that was answered afresh, and learn from it where a match had been doubted."""
        ...

    async def seed(self, pairs: Iterable[Pair]) -> None:
        """Hold these curated pairs from now on, in place of the earlier ones."""
        ...

    def remove(self, key: bytes) -> None:
        """Forget an entry; nothing happens when it is not there."""
        ...

    def close(self) -> None:
        """Let threads go. May be called twice."""
        ...
