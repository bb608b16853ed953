"""Background responses as streams: their events are kept while they are made, and read from there by whoever follows.

An event has the same number whoever reads it and when. 0 and 1 say that the response was created and waits; then come
those that the job made; the last one has what `GET` returns. An attempt that was lost with what it ran on is followed
by another one, whose events go on with the numbers and begin with `response.created` again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.api.http.exchange import EVENT_STREAM, Exchange
from ashore.api.http.openai.responses_render import event_of
from ashore.core import whole_number
from ashore.errors import AshoreError, NotFound
from ashore.jobs import EventChunk, Job, JobDesk

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

FIRST: Final = 2
"""Number of the first event that a job makes."""
KEEP_EVERY_S: Final = 0.1
"""Events are kept this often while they are made."""
LOOK_EVERY_S: Final = 0.1
"""And looked for this often by whoever follows."""
SILENCE_S: Final = 15.0
"""After so long without an event a comment is sent, so that nobody in between takes the connection for dead."""
CHUNKS_AT_ONCE: Final = 64
_NUMBER: Final = re.compile(rb'"sequence_number":(\d+)')

log = logging.getLogger("ashore.http")

Render = Callable[[Job], Awaitable[bytes]]
"""Returns a response as it stands, in JSON."""


class EventKeeper:
    """Keeps the events of one attempt at a background response. Used by one task, and `run` beside it."""

    def __init__(self, desk: JobDesk, job_id: str, attempt: int) -> None:
        self._desk, self._job_id, self._attempt = desk, job_id, attempt
        self._pending = b""
        self._last = -1
        self._is_ours = True

    def put(self, events: bytes, last: int) -> None:
        """Take events, the last of which has the number `last`."""
        if events and self._is_ours:
            self._pending += events
            self._last = last

    async def run(self) -> None:
        """Keep what comes until it is cancelled."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Keep what has come. What cannot be kept now is tried again; whoever follows gets the whole at the end."""
        if not self._pending:
            return
        chunk, self._pending = EventChunk(self._last, self._pending), b""
        try:
            self._is_ours = await self._desk.call(lambda: self._desk.events.append(self._job_id, self._attempt, chunk))
        except AshoreError as fault:
            log.warning("events of %s cannot be kept yet: %s", self._job_id, fault.message)
            self._pending = chunk.events + self._pending


async def keeper_of(desk: JobDesk, exchange: Exchange) -> tuple[EventKeeper, int]:
    """Return what keeps the events of the attempt that a request is, and the number of its first event."""
    attempt = whole_number(exchange.headers.get(b"x-ashore-attempt", b"")) or 0
    last = await desk.call(lambda: desk.events.last(exchange.job_id))
    return EventKeeper(desk, exchange.job_id, attempt), max(FIRST, last + 1)


async def follow(
    app: HttpApp, exchange: Exchange, job: Job, first: tuple[bytes, bytes], render: Render, after: int
) -> None:
    """Send the events of a background response behind the number `after`, and those to come, until it has ended.

    Args:
        app: Where it is kept.
        exchange: Who follows.
        job: The response.
        first: Its events 0 and 1.
        render: Returns it as it stands.
        after: Number of the last event that the client has; -1: none.
    """
    job_id, desk = job.job_id, app.desk
    exchange.watch()
    exchange.start_stream(EVENT_STREAM)
    if after < 1:
        await _send(exchange, b"".join(first[after + 1 :]))
    sent, silent_s = max(1, after), 0.0
    while True:
        has_ended = job.final  # looked at before the events: what came before the end is there
        chunks = await desk.call(partial(desk.events.after, job_id, sent, limit=CHUNKS_AT_ONCE))
        for chunk in chunks:
            await _send(exchange, _behind(chunk.events, sent))
            sent, silent_s = chunk.last, 0.0
        if chunks:
            continue
        if has_ended:
            break
        await asyncio.sleep(LOOK_EVERY_S)
        silent_s += LOOK_EVERY_S
        if silent_s >= SILENCE_S:
            exchange.put(b": still there\n\n")
            silent_s = 0.0
        try:
            job = await desk.call(partial(desk.queue.get, job_id, tenant=None))
        except NotFound as fault:  # it was deleted meanwhile
            exchange.error_code = fault.code
            await exchange.end_stream(event_of("error", sent + 1, code=fault.code, message=fault.message, param=None))
            return
    last = max(1, await desk.call(partial(desk.events.last, job_id)))
    await exchange.end_stream(await _end(job, render, last + 1) if after <= last else b"")


async def _send(exchange: Exchange, events: bytes) -> None:
    """Send events, and return when the client has read most of them: of what is kept, no more is read before."""
    exchange.hold.grow(len(events))
    exchange.put(events)
    await exchange.caught_up()
    exchange.hold.shrink_to(0)


async def _end(job: Job, render: Render, number: int) -> bytes:
    """Return the last event, which has the response as it is kept."""
    response = await render(job)
    status = msgspec.json.decode(response, type=_Ended).status
    kind = f"response.{status}" if status in ("completed", "incomplete") else "response.failed"
    return event_of(kind, number, response=msgspec.Raw(response))


class _Ended(msgspec.Struct):
    status: str


def _behind(events: bytes, number: int) -> bytes:
    """Return the events of a chunk whose number is greater: all, but of a chunk that the client has in part."""
    first = _NUMBER.search(events)
    if first is not None and int(first[1]) > number:
        return events
    kept = []
    for event in events.split(b"\n\n")[:-1]:
        found = _NUMBER.search(event)
        if found is not None and int(found[1]) > number:
            kept.append(event + b"\n\n")
    return b"".join(kept)
