"""Ports of the cache: epochs that signal changes, and a tier shared by processes."""

from __future__ import annotations

from typing import Protocol


class Epochs(Protocol):
    """Numbers by kind, kept by `state`. Reading one costs no I/O."""

    def get(self, kind: str) -> int:
        """Return the number of this kind as last seen, 0 if it was never raised."""
        ...


class SharedTier(Protocol):
    """Bytes by key that several processes see. `valkey.ValkeyTier` is one; `memory.MemoryTier` is its twin.

    It is a cache: it may lose anything at any time, and must never block a caller.
    """

    @property
    def up(self) -> bool:
        """Whether it answered last time."""
        ...

    async def get(self, key: bytes) -> bytes | None:
        """Return the value, or None if it is missing or the tier is slow or gone. Never raises, never waits long."""
        ...

    def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Store a value for a while. Returns at once; a failed write is dropped."""
        ...

    async def close(self) -> None:
        """Flush the queue for a moment, and disconnect. May be called twice."""
        ...
