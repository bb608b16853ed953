"""Single flight: identical concurrent requests share one generation; a late one first gets the events so far.

The generation runs in a task of its own, so it goes on when the client that began it leaves while others still listen.
It ends when the last listener leaves. A request joins only if the running generation has at least its deadline and
priority.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ashore.core.errors import AshoreError, BudgetExceeded, Bug
from ashore.data.path.model import Hear, ServingEvent, Started, Usage

log = logging.getLogger("ashore.serving")

Answering = Callable[[Hear], Awaitable[Usage]]
"""Makes an answer, emitting events as it grows, and returns its usage."""
Landed = Callable[[Sequence[ServingEvent], Usage], Awaitable[None]]
"""Called once with a whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The deadline and priority of a generation."""

    deadline_s: float
    """Seconds that it may take, from its arrival."""
    priority: int
    waits_behind: bool
    """It is background work, and waits behind everybody who is waited for."""
    min_precision: str = ""
    """Below which no token of it is computed."""

    def cover(self, wanted: Terms) -> bool:
        """Return whether these terms are at least as good as the wanted ones."""
        return (
            self.deadline_s >= wanted.deadline_s
            and self.priority >= wanted.priority
            and (wanted.waits_behind or not self.waits_behind)
            and wanted.min_precision in ("", self.min_precision)
        )


class _Rider:
    """One listener of a generation."""

    def __init__(self, hear: Hear, *, pilot: bool) -> None:
        self.over: asyncio.Future[Usage] = asyncio.get_running_loop().create_future()
        self.told = False
        self._hear = hear
        self._is_pilot = pilot

    def hear(self, event: ServingEvent) -> None:
        if self.over.done():
            return
        if not self.told:
            self.told = True
            if not self._is_pilot and isinstance(event, Started):
                event = replace(event, cache="hit-exact")
        try:
            self._hear(event)
        except Exception as fault:  # noqa: BLE001 - of this one: raised there, and not for the others
            self.over.set_exception(fault)

    def leave(self) -> None:
        if not self.over.cancel() and not self.over.cancelled():
            self.over.exception()  # even if the waiter is gone


class _Flight:
    """One generation and its listeners."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.events: list[ServingEvent] = []
        self.riders: list[_Rider] = []
        self.landed = False
        self.task: asyncio.Task[None] | None = None

    def hear(self, event: ServingEvent) -> None:
        self.events.append(event)
        for rider in self.riders:
            rider.hear(event)

    def land(self, ended: Usage | Exception) -> None:
        self.landed = True
        for rider in self.riders:
            if rider.over.done():
                continue
            if isinstance(ended, Exception):
                rider.over.set_exception(ended)
            else:
                rider.over.set_result(ended)


def _concerns_the_pilot(fault: AshoreError) -> bool:
    """Return whether another request may succeed where this one failed."""
    return fault.retryable or isinstance(fault, BudgetExceeded)


class Flights:
    """The shared generations, by address. For one event loop."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def flying(self, key: bytes, terms: Terms) -> bool:
        """Return whether an equal request is running on terms at least as good."""
        flight = self._flights.get(key)
        return flight is not None and flight.terms.cover(terms)

    async def ride(self, key: bytes, answer: Answering, hear: Hear, *, terms: Terms, landed: Landed) -> Usage:
        """Emit the generation under `key`; starts one if none runs on terms as good.

        A request that joins gets `hit-exact` in its `Started`. If the generation fails before its first event with an
        error that a retry may mend, or over the budget of the request that began it, the joined requests generate for
        themselves.

        Args:
            key: Address of the request.
            answer: Makes the answer.
            hear: Called with its events.
            terms: Terms that this request needs.
            landed: Called before the flight is over, so that the next equal request finds it cached.

        Raises:
            AshoreError: the generation failed.
        """
        flight = self._flights.get(key)
        pilot = flight is None or not flight.terms.cover(terms)
        if flight is None or pilot:
            flight = self._flights[key] = _Flight(terms)
            flight.task = asyncio.get_running_loop().create_task(
                self._fly(key, flight, answer, landed), name="shared generation"
            )
        rider = _Rider(hear, pilot=pilot)
        for event in flight.events:
            rider.hear(event)
        flight.riders.append(rider)
        try:
            return await rider.over
        except AshoreError as fault:
            if pilot or rider.told or not _concerns_the_pilot(fault):
                raise
        finally:
            flight.riders.remove(rider)
            rider.leave()
            if not flight.riders and not flight.landed and flight.task is not None:
                self._forget(key, flight)
                flight.task.cancel()
                await asyncio.wait({flight.task})  # its sequences end before this returns
        return await answer(hear)

    async def _fly(self, key: bytes, flight: _Flight, answer: Answering, landed: Landed) -> None:
        ended: Usage | Exception = Bug("a shared generation was cancelled while somebody listened to it")
        try:
            usage = await answer(flight.hear)
            await landed(flight.events, usage)
            ended = usage
        except AshoreError as fault:
            ended = fault
        except Exception as fault:  # our bug: logged here, and raised again for every listener
            log.exception("a shared generation failed")
            ended = fault
        finally:
            self._forget(key, flight)
            flight.land(ended)

    def _forget(self, key: bytes, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
