"""Single flight: identical questions at one moment share one generation, each reading it at its own pace.

The generation runs in a task of its own, so it does not end when the client that began it goes away while others still
read. It ends when nobody reads any more. Nobody comes aboard a generation that is served worse than one of its own
would be: with less time, or from a place further back in line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace

from ashore.errors import AshoreError, BudgetExceeded, Bug
from ashore.serving.answers import AnswerRecorder
from ashore.serving.model import ServingEvent, Started

log = logging.getLogger("ashore.serving")

Start = Callable[[], AsyncGenerator[ServingEvent, None]]


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


class _Flight:
    """One generation and those who read it."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.events: list[ServingEvent] = []
        self.riders = 0
        self.landed = False
        self.fault: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, event: ServingEvent) -> None:
        self.events.append(event)
        self._wake()

    def land(self, fault: BaseException | None) -> None:
        self.landed, self.fault = True, fault
        self._wake()

    async def wait(self) -> None:
        """Return at the next event, or when the flight has landed."""
        moved = asyncio.get_running_loop().create_future()
        self._waiting.append(moved)
        await moved

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for moved in waiting:
            if not moved.done():  # whoever waited may be gone
                moved.set_result(None)


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
        flight.riders += 1
        read = 0
        try:
            while True:
                while read < len(flight.events):
                    event = flight.events[read]
                    read += 1
                    if not pilot and isinstance(event, Started):
                        event = replace(event, cache="hit-exact")
                    yield event
                if flight.landed:
                    break
                await flight.wait()
        finally:
            flight.riders -= 1
            if flight.riders == 0 and not flight.landed and flight.task is not None:
                self._forget(key, flight)
                flight.task.cancel()
                await asyncio.wait({flight.task})  # its sequences have ended when we have
        if flight.fault is None:
            return
        if pilot or read or not (isinstance(flight.fault, AshoreError) and _concerns_the_pilot(flight.fault)):
            raise flight.fault
        alone = start()
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
        events = start()
        try:
            async for event in events:
                recorder.hear(event)
                flight.add(event)
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
