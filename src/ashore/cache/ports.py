"""What the cache needs: numbers that say "look again", and a tier that processes share."""

from __future__ import annotations

from typing import Protocol


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
