"""Ports of the cache: epochs that signal changes, and a tier shared by processes."""

from __future__ import annotations

from typing import Protocol


class Epochs(Protocol):
    """Numbers by kind, kept by `state`. Reading one costs no I/O."""

    def get(self, kind: str) -> int:
        """Return the number of this kind as last seen, 0 if it was never raised."""
        ...


class FixedEpochs:
    """Epochs that a test, or a process without a state, raises by hand."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {}

    def get(self, kind: str) -> int:
        return self._values.get(kind, 0)

    def bump(self, kind: str) -> None:
        """Raise one number."""
        self._values[kind] = self.get(kind) + 1


class SharedTier(Protocol):
    """Bytes by key that several processes see. `valkey.ValkeyTier` is one.

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
