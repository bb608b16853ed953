"""In-memory tier of the answer cache: the twin of `ValkeyTier`."""

from __future__ import annotations

from ashore.core.clock import Clock
from ashore.data.cache.tinylfu import TinyLfu


class MemoryTier:
    """Several caches of one process may share it."""

    def __init__(self, clock: Clock, max_bytes: int = 64 << 20) -> None:
        self._clock = clock
        self._kept: TinyLfu[tuple[float, bytes]] = TinyLfu(max_bytes)
        self.reachable = True
        """A test sets it to False to simulate a dead server."""

    @property
    def up(self) -> bool:
        return self.reachable

    async def get(self, key: bytes) -> bytes | None:
        found = self._kept.get(key) if self.reachable else None
        if found is None or found[0] <= self._clock.monotonic_s():
            return None
        return found[1]

    def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        if self.reachable:
            self._kept.put(key, (self._clock.monotonic_s() + ttl_s, value), len(value))

    async def close(self) -> None:
        self.reachable = False
