"""Limits the bytes of requests that a worker holds: in total, per tenant and per principal. Counted are bodies, and the
log-probabilities and vectors of answers that are made: few bytes of a body ask for gigabytes of them.

A limit per request does not bound a hundred of them. Received bytes count until their request ends; announced bytes do
not, since announcing a length costs a client nothing. The first 16 KiB of a body are free, so that administration and
short questions go on during large uploads. HTTP and gRPC of a worker share one count.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final

from ashore.core.errors import AshoreError, InvalidRequest, Overloaded
from ashore.data.path import Delta, Hear, Limits, ServingEvent
from ashore.kit.processes import allowed_memory_bytes

MEMORY_SHARE: Final = 8
"""The workers of a machine hold bodies in one part in so many of its memory."""
PRINCIPAL_SHARE: Final = 4
"""A principal's share of its tenant's limit: one part in this many."""
FREE_BYTES: Final = 16 << 10
"""Per body; the number of concurrent bodies is limited by the connections."""
LEAST_BYTES: Final = 64 << 20
"""Per worker, on any machine: room for some of the longest bodies."""
LOGPROB_BYTES: Final = 150
"""Of memory that a log-probability takes as long as its answer is made, approximately."""


def bodies_of(limits: Limits, *, num_workers: int = 1, memory: int | None = None) -> Bodies:
    """Return the body count of one of `num_workers` workers.

    Defaults of `limits`: an eighth of the memory in total, at least 64 MiB per worker; half of that for one tenant. No
    limit is below the longest allowed body, which could otherwise never be accepted.
    """
    share = (allowed_memory_bytes() if memory is None else memory) // MEMORY_SHARE // num_workers
    most = max(limits.bodies_bytes or max(LEAST_BYTES, share), limits.max_body_bytes)
    tenant = max(limits.tenant_bodies_bytes or most // 2, limits.max_body_bytes)
    principal = max(tenant // PRINCIPAL_SHARE, limits.max_body_bytes)
    return Bodies(most, tenant, principal_bytes=principal, free_bytes=FREE_BYTES)


class Bodies:
    """Counts the request bodies of one worker. Used in its loop alone."""

    def __init__(
        self, most_bytes: int, tenant_bytes: int, *, principal_bytes: int | None = None, free_bytes: int = 0
    ) -> None:
        """Create the count.

        Args:
            most_bytes: Limit for all tenants together.
            tenant_bytes: Limit for each tenant.
            principal_bytes: Limit for each principal; None: as for the tenant.
            free_bytes: First bytes of each body, which are not counted.
        """
        self._most: Final = most_bytes
        self._tenant_most: Final = tenant_bytes
        self.principal_bytes: Final = tenant_bytes if principal_bytes is None else principal_bytes
        self.free_bytes: Final = free_bytes
        self._held = 0
        self._of: Counter[str] = Counter()
        self._by: Counter[tuple[str, str]] = Counter()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def held_bytes(self) -> int:
        """Bytes held now."""
        return self._held

    def hold(self, tenant: str, principal: str = "") -> Hold:
        """Return the hold of one request's body, initially empty."""
        return Hold(self, (tenant, principal))

    def has_room(self, whose: tuple[str, str], num_bytes: int) -> bool:
        """Return whether `take` would accept the bytes. `whose`: tenant and principal."""
        return not self._full(whose, num_bytes)

    def _full(self, whose: tuple[str, str], num_bytes: int) -> tuple[str, int, int, str] | None:
        """Return which limit the bytes would exceed, with the bytes held and the key that raises it."""
        of_tenant, of_principal = self._of[whose[0]], self._by[whose]
        if self._held + num_bytes > self._most:
            return "of all tenants", self._held, self._most, "bodies_bytes"
        if of_tenant + num_bytes > self._tenant_most:
            return "of this tenant", of_tenant, self._tenant_most, "tenant_bodies_bytes"
        if of_principal + num_bytes > self.principal_bytes:
            return f"of {whose[1]}", of_principal, self.principal_bytes, "tenant_bodies_bytes"
        return None

    def take(self, whose: tuple[str, str], num_bytes: int) -> None:
        """Count more bytes.

        Raises:
            Overloaded: there is no room for them. Nothing was counted.
        """
        if (full := self._full(whose, num_bytes)) is not None:
            what, held, most, key = full
            raise Overloaded(
                f"the request bodies {what} already hold {held:,} bytes; {num_bytes:,} more would exceed the limit of"
                f" {most:,}",
                hint=f"retry when some of those requests have finished, or raise [http] {key}",
                retry_after_s=1,
            )
        self._held += num_bytes
        self._of[whose[0]] += num_bytes
        self._by[whose] += num_bytes

    def give_back(self, whose: tuple[str, str], num_bytes: int) -> None:
        """Release bytes."""
        self._held -= num_bytes
        self._of[whose[0]] -= num_bytes
        self._by[whose] -= num_bytes
        if not self._of[whose[0]]:
            del self._of[whose[0]]
        if not self._by[whose]:
            del self._by[whose]
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait until bytes are released."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter


class Hold:
    """The counted bytes of one request's body."""

    __slots__ = ("_bodies", "_free_bytes", "_length", "_num_bytes", "_whose")

    def __init__(self, bodies: Bodies | None, whose: tuple[str, str]) -> None:
        self._bodies = bodies
        self._free_bytes = math.inf if bodies is None else bodies.free_bytes
        self._whose = whose
        self._length = 0
        self._num_bytes = 0

    def check(self, num_bytes: int) -> None:
        """Check that a body of this size has room now. Counts nothing.

        Raises:
            Overloaded: there is no room.
        """
        if self._bodies is not None and (counted := self._counted(num_bytes)) > 0:
            self._bodies.take(self._whose, counted)
            self._bodies.give_back(self._whose, counted)

    def grow(self, num_bytes: int) -> None:
        """Count more bytes of the body.

        Raises:
            Overloaded: there is no room for them.
        """
        length = self._length + num_bytes
        if length > self._free_bytes and self._bodies and (more := self._counted(length) - self._num_bytes) > 0:
            self._bodies.take(self._whose, more)
            self._num_bytes += more
        self._length = length

    def _counted(self, length: int) -> int:
        return 0 if self._bodies is None else max(0, length - self._bodies.free_bytes)

    def grow_read(self, num_bytes: int) -> None:
        """Count what was read of the body beside its bytes, up to the principal's limit: a request that is alone always
        has room.

        Raises:
            Overloaded: there is no room for it.
        """
        if self._bodies is not None:
            self.grow(max(0, min(num_bytes, self._bodies.principal_bytes - self._length)))

    def cover(self, num_bytes: int) -> None:
        """Count at least so many bytes in all, up to the principal's limit, from now on: a whole answer, which a client
        may be slow to read.

        Raises:
            Overloaded: there is no room for it.
        """
        if self._bodies is not None:
            self.grow(max(0, min(num_bytes, self._bodies.principal_bytes) - self._length))

    def grow_answer(self, num_bytes: int) -> None:
        """Count what the answer takes in memory before it is sent.

        Raises:
            InvalidRequest: with it the request exceeds the principal's limit.
            Overloaded: there is no room for it beside other requests.
        """
        if self._bodies is not None and self._length + num_bytes > self._bodies.principal_bytes:
            raise InvalidRequest(
                f"the answer holds more log-probabilities than the {self._bodies.principal_bytes:,} bytes of memory for"
                " the requests of one person take",
                hint="ask for fewer prompts, choices, tokens or top_logprobs in one request, or for a stream",
            )
        self.grow(num_bytes)

    async def make_room(self, num_bytes: int, timeout_s: float) -> None:
        """Count what an answer will take in memory, up to the principal's limit, once there is room for it.

        Raises:
            Overloaded: there was none in time.
        """
        if self._bodies is not None:
            await self.grow_in_turn(max(0, min(num_bytes, self._bodies.principal_bytes - self._length)), timeout_s)

    async def grow_in_turn(self, num_bytes: int, timeout_s: float) -> None:
        """Count more bytes once there is room for them: for bodies of unknown length.

        Raises:
            Overloaded: there was none in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self._bodies is not None and not self._bodies.has_room(self._whose, self._counted(num_bytes)):
                    await self._bodies.wait()
        except TimeoutError:
            pass  # no room in time: `grow` raises with the limit
        self.grow(num_bytes)

    def shrink_to(self, num_bytes: int) -> None:
        """Reduce the count to these bytes. May be called twice."""
        self._length = min(self._length, num_bytes)
        if self._bodies is not None and (less := self._num_bytes - self._counted(num_bytes)) > 0:
            self._num_bytes -= less
            self._bodies.give_back(self._whose, less)

    def release(self) -> None:
        """Release all bytes. May be called twice."""
        self._length = 0
        if self._num_bytes:
            self.shrink_to(0)


NO_HOLD: Final = Hold(None, ("", ""))
"""For requests whose body is not read."""


def logprob_bytes(event: ServingEvent) -> int:
    """Return what the log-probabilities of an event take in memory."""
    if not isinstance(event, Delta) or not event.logprobs:
        return 0
    return LOGPROB_BYTES * sum(1 + len(token.top) for token in event.logprobs)


async def made_whole(answer: Callable[[Hear], Awaitable[None]], hear: Hear, hold: Hold) -> None:
    """Make an answer that is sent whole: its log-probabilities count until the request ends.

    Raises:
        InvalidRequest, Overloaded: there is no room for them; nothing more is generated.
        AshoreError: as `answer`.
    """
    task, full = asyncio.current_task(), list[AshoreError]()
    assert task is not None

    def counted(event: ServingEvent) -> None:
        if full:
            return
        try:
            if (num_bytes := logprob_bytes(event)) > 0:
                hold.grow_answer(num_bytes)
            hear(event)
        except AshoreError as fault:
            full.append(fault)
            task.cancel()

    try:
        await answer(counted)
        if full:
            await asyncio.sleep(0)  # here the cancellation arrives
    except asyncio.CancelledError:
        if not full:
            raise
        task.uncancel()
        raise full[0] from None
