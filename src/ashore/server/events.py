"""Events of the state as one worker follows them: read once, kept for a while, and given to whoever may read them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from ashore.core import Principal, Rights
from ashore.errors import Overloaded
from ashore.state import EVENTS, Database, EpochWatch, Event, events_after, events_span

AT_ONCE: Final = 200
"""Events that are read of the state at once."""
REMEMBERED: Final = 1_000
"""Newest events in memory, so that forty followers cost one read."""
MOST_FOLLOWERS: Final = 400
"""Open streams of one worker."""
MOST_OF_ONE: Final = 20
"""Open streams of one account."""
TICK_S: Final = 1.0
"""Between two turns of a stream in which nothing happens: whoever sends it looks then whether it may go on."""
ALIVE_S: Final = 15.0
"""Between two comments in a stream in which nothing happens; proxies close silent connections."""
ALIVE: Final = b": alive\n\n"


class EventOut(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    id: int
    """Number; give it as `after`, or as `Last-Event-ID`, to go on behind it."""
    happened_at: int
    """Unix time in seconds."""
    kind: str
    """job.queued, job.running, job.succeeded, release.live, and others."""
    resource: str
    """What it happened to."""
    about: dict[str, str | int | float | None]
    """What else there is to say."""


class Feed:
    """Follows the events of a state in one worker. Lives on its event loop."""

    def __init__(self, database: Database, rights: Rights) -> None:
        self._database = database
        self._rights = rights
        self._news = asyncio.Event()
        self._kept: deque[Event] = deque(maxlen=REMEMBERED)
        self._followers: Counter[str] = Counter()
        self._reading = asyncio.Lock()

    def watch(self, watch: EpochWatch) -> None:
        """Have followers woken by each event."""
        loop = asyncio.get_running_loop()

        def on_change(kind: str, value: int) -> None:
            if kind == EVENTS:
                loop.call_soon_threadsafe(self._wake)

        watch.on_change(on_change)

    async def after(self, principal: Principal, number: int, *, limit: int) -> tuple[list[EventOut], int]:
        """Return the oldest events behind a number that somebody may read, and the number to go on behind."""
        found: list[EventOut] = []
        while len(found) < limit:
            events = await self._after(number)
            if not events:
                break
            for event in events:
                number = event.number
                if self._rights.decide(principal, event.reads, event.resource).allowed:
                    found.append(_out(event))
                    if len(found) == limit:
                        break
        return found, number

    async def last(self, *, before: int = 0) -> int:
        """Return the number behind which the newest `before` events lie; 0: behind the newest."""
        first, last = await asyncio.to_thread(self._span)
        return max(first - 1, last - before, 0)

    async def follow(self, principal: Principal, number: int | None) -> AsyncGenerator[bytes]:
        """Return a stream of server-sent events: those behind a number (None: from now on), and each new one.

        Between events it gives empty pieces, so that whoever sends them may look whether it may go on. It holds no
        events: a reader that is slow reads on where it is.

        Raises:
            Overloaded: too many follow already.
        """
        if self._followers.total() >= MOST_FOLLOWERS or self._followers[principal.id] >= MOST_OF_ONE:
            raise Overloaded(
                f"{self._followers[principal.id]} streams of events are open for this account",
                hint=f"close some; one account may have {MOST_OF_ONE} for each worker",
            )
        begins = await self.last() if number is None else number
        return self._stream(principal, begins)

    async def _stream(self, principal: Principal, number: int) -> AsyncGenerator[bytes]:
        self._followers[principal.id] += 1
        try:
            first, last = await asyncio.to_thread(self._span)
            if number + 1 < first or number > last:
                number = first - 1 if number <= last else last
                yield _frame(number, {"kind": "missed", "about": {"from": first}})
            else:
                yield ALIVE
            while True:
                news = self._news
                found, number = await self.after(principal, number, limit=AT_ONCE)
                for event in found:
                    yield _frame(event.id, msgspec.to_builtins(event))
                silent_s = 0.0
                while not found and not news.is_set() and silent_s < ALIVE_S:
                    try:
                        async with asyncio.timeout(TICK_S):
                            await news.wait()
                    except TimeoutError:
                        silent_s += TICK_S
                    yield ALIVE if silent_s >= ALIVE_S else b""
        finally:
            self._followers[principal.id] -= 1
            self._followers += Counter()  # without those that are gone

    async def _after(self, number: int) -> list[Event]:
        async with self._reading:
            kept = self._kept
            if kept and number + 1 < kept[0].number:  # of a reader who was away for long
                return await asyncio.to_thread(self._read, number)
            if kept and kept[-1].number < number:
                kept.clear()
            kept.extend(await asyncio.to_thread(self._read, kept[-1].number if kept else number))
            return [event for event in kept if event.number > number][:AT_ONCE]

    def _read(self, number: int) -> list[Event]:
        with self._database.read() as connection:
            return events_after(connection, number, limit=AT_ONCE)

    def _span(self) -> tuple[int, int]:
        with self._database.read() as connection:
            return events_span(connection)

    def _wake(self) -> None:
        before, self._news = self._news, asyncio.Event()
        before.set()


def _out(event: Event) -> EventOut:
    return EventOut(
        id=event.number,
        happened_at=event.at_ms // 1000,
        kind=event.kind,
        resource=event.resource,
        about=dict(event.about),
    )


def _frame(number: int, data: object) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (number, msgspec.json.encode(data))
