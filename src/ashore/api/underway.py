"""How many bytes of request bodies a worker holds at once: in sum, and of each tenant.

A bound on one request says nothing about a hundred of them. What is counted is a body from its announced length, or
from its first byte, to the end of its request; HTTP and gRPC of a worker count in one place.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from pathlib import Path
from typing import Final

from ashore.errors import Overloaded
from ashore.serving import Limits

MEMORY_SHARE: Final = 8
"""The workers of a machine hold bodies in one part in so many of its memory."""
LEAST_BYTES: Final = 64 << 20
"""Of one worker, however small the machine is: room for some of the longest bodies."""


def memory_bytes(root: Path = Path("/")) -> int:
    """Return the memory of this machine, or of the control group that this process is in. `root` stands for `/`."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = (root / "sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole


def bodies_of(limits: Limits, *, num_workers: int = 1, memory: int | None = None) -> Bodies:
    """Return the count of the bodies of one of `num_workers` workers.

    What `limits` leave open: together an eighth of the memory, 64 MiB at least for each worker; half for one tenant.
    No bound is below the longest body, or that body would never be taken.
    """
    share = (memory_bytes() if memory is None else memory) // MEMORY_SHARE // num_workers
    most = max(limits.bodies_bytes or max(LEAST_BYTES, share), limits.max_body_bytes)
    return Bodies(most, max(limits.tenant_bodies_bytes or most // 2, limits.max_body_bytes))


class Bodies:
    """Counts the bodies of one worker. Used in its loop alone."""

    def __init__(self, most_bytes: int, tenant_bytes: int) -> None:
        """Make it. `most_bytes` for all tenants together, `tenant_bytes` for each."""
        self._most: Final = most_bytes
        self._tenant_most: Final = tenant_bytes
        self._held = 0
        self._of: Counter[str] = Counter()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def held_bytes(self) -> int:
        """What is held now."""
        return self._held

    def hold(self, tenant: str) -> Hold:
        """Return where the body of one request of `tenant` is counted; nothing yet."""
        return Hold(self, tenant)

    def has_room(self, tenant: str, num_bytes: int) -> bool:
        """Return whether `take` would take them."""
        return self._held + num_bytes <= self._most and self._of[tenant] + num_bytes <= self._tenant_most

    def take(self, tenant: str, num_bytes: int) -> None:
        """Count more bytes.

        Raises:
            Overloaded: there is no room for them. Nothing was counted.
        """
        if not self.has_room(tenant, num_bytes):
            whose, held, most, key = (
                ("of all tenants", self._held, self._most, "bodies_bytes")
                if self._held + num_bytes > self._most
                else ("of this tenant", self._of[tenant], self._tenant_most, "tenant_bodies_bytes")
            )
            raise Overloaded(
                f"the requests under way {whose} have bodies of {held:,} bytes; with {num_bytes:,} more they would pass"
                f" {most:,}",
                hint=f"send it again when some of them are answered, or raise [http] {key}",
                retry_after_s=1,
            )
        self._held += num_bytes
        self._of[tenant] += num_bytes

    def give_back(self, tenant: str, num_bytes: int) -> None:
        """Count so many bytes less."""
        self._held -= num_bytes
        self._of[tenant] -= num_bytes
        if not self._of[tenant]:
            del self._of[tenant]
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Return when something was given back."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter


class Hold:
    """The body of one request, as far as it is counted."""

    __slots__ = ("_bodies", "_num_bytes", "_tenant")

    def __init__(self, bodies: Bodies | None, tenant: str) -> None:
        self._bodies = bodies
        self._tenant = tenant
        self._num_bytes = 0

    def grow(self, num_bytes: int) -> None:
        """Count more bytes of the body.

        Raises:
            Overloaded: there is no room for them.
        """
        if self._bodies is not None and num_bytes:
            self._bodies.take(self._tenant, num_bytes)
            self._num_bytes += num_bytes

    async def grow_in_turn(self, num_bytes: int, timeout_s: float) -> None:
        """Count more bytes as soon as there is room for them: for who cannot know how many will come.

        Raises:
            Overloaded: there was none in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self._bodies is not None and not self._bodies.has_room(self._tenant, num_bytes):
                    await self._bodies.wait()
        except TimeoutError:
            pass  # then there is no room, and `grow` says for what
        self.grow(num_bytes)

    def shrink_to(self, num_bytes: int) -> None:
        """Count so many bytes and no more. May be called twice."""
        if self._bodies is not None and self._num_bytes > num_bytes:
            self._bodies.give_back(self._tenant, self._num_bytes - num_bytes)
            self._num_bytes = num_bytes

    def release(self) -> None:
        """Count nothing any more. May be called twice."""
        self.shrink_to(0)


NO_HOLD: Final = Hold(None, "")
"""Of requests whose body nobody reads."""
