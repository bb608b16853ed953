"""Single flight: identical questions at one moment share one generation; who comes late is told first what was made.

The generation runs in a task of its own, so it does not end when the client that began it goes away while others still
listen. It ends when nobody listens any more. Nobody comes aboard a generation that is served worse than one of its own
would be: with less time, or from a place further back in line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ashore.errors import AshoreError, BudgetExceeded, Bug
from ashore.serving.model import Hear, ServingEvent, Started, Usage

log = logging.getLogger("ashore.serving")

Answering = Callable[[Hear], Awaitable[Usage]]
"""Makes an answer, which is told as it grows, and returns what it took."""
Landed = Callable[[Sequence[ServingEvent], Usage], Awaitable[None]]
"""Called once with a whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a generation is served."""

    deadline_s: float
    """Seconds that it may take, from its arrival."""
    priority: int
    waits_behind: bool
    """It is background work, and waits behind everybody who is waited for."""
    min_precision: str = ""
    """Below which no token of it is computed."""

    def cover(self, wanted: Terms) -> bool:
        """Return whether who wants those terms loses nothing by these."""
        return (
            self.deadline_s >= wanted.deadline_s
            and self.priority >= wanted.priority
            and (wanted.waits_behind or not self.waits_behind)
            and wanted.min_precision in ("", self.min_precision)
        )


class _Rider:
    """One who listens to a generation."""

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
            self.over.exception()  # whether or not anybody still waits for it


class _Flight:
    """One generation and those who listen to it."""

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
    """Return whether somebody else who tries may fare better."""
    return fault.retryable or isinstance(fault, BudgetExceeded)


class Flights:
    """The generations that may be shared, by address. For one event loop."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def flying(self, key: bytes, terms: Terms) -> bool:
        """Return whether somebody already asked this on terms as good, and has no answer yet."""
        flight = self._flights.get(key)
        return flight is not None and flight.terms.cover(terms)

    async def ride(self, key: bytes, answer: Answering, hear: Hear, *, terms: Terms, landed: Landed) -> Usage:
        """Tell the one generation under `key`, begun now if there is none on terms as good.

        One that comes aboard is told `hit-exact` in its `Started`. When the generation fails before it gave anything,
        with an error that another try may mend, or over the budget of who began it, those who came aboard generate for
        themselves.

        Args:
            key: Address of the question.
            answer: Makes the answer.
            hear: Told it.
            terms: On which this one must be served.
            landed: Called before the flight is over, so that whoever asks next finds it kept.

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
                await asyncio.wait({flight.task})  # its sequences have ended when we have
        return await answer(hear)

    async def _fly(self, key: bytes, flight: _Flight, answer: Answering, landed: Landed) -> None:
        ended: Usage | Exception = Bug("a shared generation was cancelled while somebody listened to it")
        try:
            usage = await answer(flight.hear)
            await landed(flight.events, usage)
            ended = usage
        except AshoreError as fault:
            ended = fault
        except Exception as fault:  # our bug: shown here, and raised again for everybody who listens
            log.exception("a shared generation failed")
            ended = fault
        finally:
            self._forget(key, flight)
            flight.land(ended)

    def _forget(self, key: bytes, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
