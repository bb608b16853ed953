"""Single flight: identical questions at one moment share one generation, each reading it at its own pace.

The generation runs in a task of its own, so it does not end when the client that began it goes away while others still
read. It ends when nobody reads any more. Nobody comes aboard a generation that is served worse than one of its own
would be: with less time, or from a place further back in line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from ashore.errors import AshoreError, BudgetExceeded, Bug
from ashore.serving.answers import AnswerRecorder
from ashore.serving.flow import Flow
from ashore.serving.model import Delta, ServingEvent, Started

log = logging.getLogger("ashore.serving")

Start = Callable[[Flow | None], AsyncGenerator[ServingEvent, None]]
"""Begins an answer, whose pieces go by a flow while that is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a generation is served."""

    deadline_s: float
    """Seconds that it may take, from its arrival."""
    priority: int
    waits_behind: bool
    """It is background work, and waits behind everybody who is waited for."""

    def cover(self, wanted: Terms) -> bool:
        """Return whether who wants those terms loses nothing by these."""
        return (
            self.deadline_s >= wanted.deadline_s
            and self.priority >= wanted.priority
            and (wanted.waits_behind or not self.waits_behind)
        )


class _Rider:
    """One who reads a generation."""

    def __init__(self, flow: Flow | None) -> None:
        self.read = 0
        """Events that it has."""
        self._flow = flow
        self._moved: asyncio.Future[None] | None = None
        self._fault: Exception | None = None

    async def wait(self) -> None:
        """Return at the next event that it has to read, or when the flight has landed."""
        self._moved = asyncio.get_running_loop().create_future()
        await self._moved
        if self._fault is not None:
            raise self._fault

    def hear(self, event: ServingEvent) -> None:
        """Take the next event the short way, or be woken for it; who reads will come to it."""
        if self._moved is None or self._moved.done():
            return
        if self._flow is not None and self._flow.is_open and isinstance(event, Delta):
            self.read += 1
            try:
                self._flow.tell(event)
                return
            except Exception as fault:  # noqa: BLE001 - of this one: raised there, and not for the others
                self._fault = fault
        self.wake()

    def wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)


class _Flight:
    """One generation and those who read it."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.events: list[ServingEvent] = []
        self.riders: list[_Rider] = []
        self.landed = False
        self.fault: BaseException | None = None
        self.task: asyncio.Task[None] | None = None

    def add(self, event: ServingEvent) -> None:
        self.events.append(event)
        for rider in self.riders:
            rider.hear(event)

    def land(self, fault: BaseException | None) -> None:
        self.landed, self.fault = True, fault
        for rider in self.riders:
            rider.wake()


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

    async def ride(
        self,
        key: bytes,
        start: Start,
        *,
        terms: Terms,
        num_choices: int,
        landed: Callable[[AnswerRecorder], Awaitable[None]],
        flow: Flow | None = None,
    ) -> AsyncGenerator[ServingEvent, None]:
        """Yield the events of the one generation under `key`, begun now if there is none on terms as good.

        One that comes aboard is told `hit-exact` in its `Started`. When the generation fails before it gave anything,
        with an error that another try may mend, or over the budget of who began it, those who came aboard generate for
        themselves.

        Args:
            key: Address of the question.
            start: Begins a generation.
            terms: On which this one must be served.
            num_choices: Of the answer.
            landed: Called once with a whole answer, before the flight is over; so that whoever asks next finds it kept.
            flow: Takes pieces for this one while it is open.

        Raises:
            AshoreError: the generation failed.
        """
        flight = self._flights.get(key)
        pilot = flight is None or not flight.terms.cover(terms)
        if flight is None or pilot:
            flight = self._flights[key] = _Flight(terms)
            flight.task = asyncio.get_running_loop().create_task(
                self._fly(key, flight, start, num_choices, landed), name="shared generation"
            )
        rider = _Rider(flow)
        flight.riders.append(rider)
        try:
            while True:
                while rider.read < len(flight.events):
                    event = flight.events[rider.read]
                    rider.read += 1
                    if not pilot and isinstance(event, Started):
                        event = replace(event, cache="hit-exact")
                    yield event
                if flight.landed:
                    break
                await rider.wait()
        finally:
            flight.riders.remove(rider)
            if not flight.riders and not flight.landed and flight.task is not None:
                self._forget(key, flight)
                flight.task.cancel()
                await asyncio.wait({flight.task})  # its sequences have ended when we have
        if flight.fault is None:
            return
        if pilot or rider.read or not (isinstance(flight.fault, AshoreError) and _concerns_the_pilot(flight.fault)):
            raise flight.fault
        alone = start(flow)
        try:
            async for event in alone:
                yield event
        finally:
            await alone.aclose()

    async def _fly(
        self,
        key: bytes,
        flight: _Flight,
        start: Start,
        num_choices: int,
        landed: Callable[[AnswerRecorder], Awaitable[None]],
    ) -> None:
        recorder = AnswerRecorder(num_choices)
        fault: BaseException | None = None

        def take(event: ServingEvent) -> bool:
            recorder.hear(event)
            flight.add(event)
            return True

        flow = Flow(take)
        events = start(flow)
        try:
            async for event in events:
                take(event)
                if isinstance(event, Delta):
                    flow.open()
            await landed(recorder)
        except asyncio.CancelledError:
            fault = Bug("a shared generation was cancelled while somebody read it")
            raise
        except AshoreError as caught:
            fault = caught
        except Exception as caught:  # our bug: shown here, and raised again for everybody who reads
            log.exception("a shared generation failed")
            fault = caught
        finally:
            self._forget(key, flight)
            flight.land(fault)
            await events.aclose()

    def _forget(self, key: bytes, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
