"""Events of the state as one worker follows them: read once, cached for a while, and sent to authorised readers."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from ashore.core.errors import Overloaded
from ashore.core.principal import Principal
from ashore.kit.call import Rights
from ashore.kit.state import EVENTS, Database, EpochWatch, Event, events_after, events_span

AT_ONCE: Final = 200
"""Events that are read of the state at once."""
REMEMBERED: Final = 1_000
"""Newest events in memory, so that forty followers cost one read."""
MOST_FOLLOWERS: Final = 400
"""Open streams of one worker."""
MOST_OF_ONE: Final = 20
"""Open streams of one account."""
TICK_S: Final = 1.0
"""Between two turns of a stream in which nothing happens: its sender checks then whether it may continue."""
ALIVE_S: Final = 3.0
"""Between two comments in a stream in which nothing happens: proxies close silent connections, and only what is sent
tells that a reader is gone."""
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
        self._heard = 0
        """The newest number that the watch told of; 0: nothing was told, so only the state knows."""
        self._kept: deque[Event] = deque(maxlen=REMEMBERED)
        self._followers: Counter[str] = Counter()
        self._reading = asyncio.Lock()

    def watch(self, watch: EpochWatch) -> None:
        """Wake followers on each event."""
        loop = asyncio.get_running_loop()

        def on_change(kind: str, value: int) -> None:
            if kind == EVENTS:
                loop.call_soon_threadsafe(self._wake, value)

        watch.on_change(on_change)

    @property
    def num_followers(self) -> int:
        """The number of open streams."""
        return self._followers.total()

    async def after(self, principal: Principal, number: int, *, limit: int) -> tuple[list[EventOut], int]:
        """Return the oldest events after a number that a person may read, and the number to continue from."""
        return await self._readable(principal, number, limit=limit, heard=False)

    async def _readable(
        self, principal: Principal, number: int, *, limit: int, heard: bool
    ) -> tuple[list[EventOut], int]:
        found: list[EventOut] = []
        while len(found) < limit:
            events = await self._after(number, heard=heard)
            if not events:
                break
            for event in events:
                number = event.number
                if self._rights.decide(principal, event.reads, event.resource).allowed or _is_own(event, principal):
                    found.append(_out(event))
                    if len(found) == limit:
                        break
        return found, number

    async def last(self, *, before: int = 0) -> int:
        """Return the number before the newest `before` events; 0: after the newest."""
        first, last = await asyncio.to_thread(self._span)
        return max(first - 1, last - before, 0)

    async def follow(self, principal: Principal, number: int | None) -> AsyncGenerator[bytes]:
        """Return a stream of server-sent events: those after a number (None: from now on), and each new one.

        Between events it yields empty pieces, so that the sender can check whether to continue. It buffers nothing: a
        slow reader continues where it is.

        Raises:
            Overloaded: there are too many followers.
        """
        if self._followers.total() >= MOST_FOLLOWERS or self._followers[principal.id] >= MOST_OF_ONE:
            raise Overloaded(
                f"{self._followers[principal.id]} streams of events are open for this account",
                hint=f"close some; one account may have {MOST_OF_ONE} for each worker",
            )
        stream = self._stream(principal, number)
        await anext(stream)  # counts this one before another check can run
        return stream

    async def _stream(self, principal: Principal, number: int | None) -> AsyncGenerator[bytes]:
        self._followers[principal.id] += 1
        try:
            yield b""
            first, last = await asyncio.to_thread(self._span)
            if number is None:
                number = max(first - 1, last, 0)
            if number + 1 < first or number > last:
                number = first - 1 if number <= last else last
                yield _frame(number, {"kind": "missed", "about": {"from": first}})
            else:
                yield ALIVE
            while True:
                news = self._news
                found, number = await self._readable(principal, number, limit=AT_ONCE, heard=True)
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

    async def _after(self, number: int, *, heard: bool) -> list[Event]:
        """Return events after a number; with `heard`, only those that this worker was woken for: when forty followers
        wake at once, only one reads the state.
        """
        async with self._reading:
            kept = self._kept
            if heard and kept and kept[0].number <= number + 1 and 0 < self._heard <= kept[-1].number:
                return [event for event in kept if event.number > number][:AT_ONCE]
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

    def _wake(self, value: int) -> None:
        self._heard = max(self._heard, value)
        before, self._news = self._news, asyncio.Event()
        before.set()


def _is_own(event: Event, principal: Principal) -> bool:
    """Return whether the event is about something that the principal itself requested; events do not record the key."""
    kind, _, rest = event.resource.partition("/")
    return kind == "tenant" and principal.owns(rest.partition("/")[0], str(event.about.get("owner")))


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
