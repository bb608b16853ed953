"""Background responses as streams: their events are stored while they are made, and readers follow them from there.

Event numbers are the same for every reader. 0 and 1 report that the response was created and waits; then come the
events of the job; the last one has what `GET` returns. If an attempt is lost with its host, the next one continues the
numbers and begins with `response.created` again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.core.errors import AshoreError, NotFound, Unauthenticated
from ashore.core.wholenumber import whole_number
from ashore.data.authority import Principal
from ashore.data.http.exchange import EVENT_STREAM, Exchange
from ashore.data.http.openai.responses_render import event_of
from ashore.data.http.stored import find_job
from ashore.data.jobs import EventChunk, Job, JobDesk

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

FIRST: Final = 2
"""Number of the first event that a job makes."""
KEEP_EVERY_S: Final = 0.1
"""Events are kept this often while they are made."""
LOOK_EVERY_S: Final = 0.1
"""Polling interval of readers."""
SILENCE_S: Final = 15.0
"""A comment is sent after this long without an event, so that no proxy takes the connection for dead."""
CHUNKS_AT_ONCE: Final = 64
_NUMBER: Final = re.compile(rb'"sequence_number":(\d+)')

log = logging.getLogger("ashore.http")

Render = Callable[[Job], Awaitable[bytes]]
"""Returns a response as it stands, in JSON."""


class EventKeeper:
    """Stores the events of one attempt at a background response. Used by one task, with `run` next to it."""

    def __init__(self, desk: JobDesk, job_id: str, attempt: int) -> None:
        self._desk, self._job_id, self._attempt = desk, job_id, attempt
        self._pending = b""
        self._last = -1
        self._is_ours = True

    def put(self, events: bytes, last: int) -> None:
        """Add events, the last of which has the number `last`."""
        if events and self._is_ours:
            self._pending += events
            self._last = last

    async def run(self) -> None:
        """Store incoming events until it is cancelled."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Store pending events. A failed write is retried; readers get the whole response at the end."""
        if not self._pending:
            return
        chunk, self._pending = EventChunk(self._last, self._pending), b""
        try:
            self._is_ours = await self._desk.call(lambda: self._desk.events.append(self._job_id, self._attempt, chunk))
        except AshoreError as fault:
            log.warning("events of %s cannot be kept yet: %s", self._job_id, fault.message)
            self._pending = chunk.events + self._pending


async def keeper_of(desk: JobDesk, exchange: Exchange) -> tuple[EventKeeper, int]:
    """Return the event store of the attempt that a request belongs to, and the number of its first event."""
    attempt = whole_number(exchange.headers.get(b"x-ashore-attempt", b"")) or 0
    last = await desk.call(lambda: desk.events.last(exchange.job_id))
    return EventKeeper(desk, exchange.job_id, attempt), max(FIRST, last + 1)


async def follow(
    app: HttpApp,
    exchange: Exchange,
    principal: Principal,
    job: Job,
    first: tuple[bytes, bytes],
    render: Render,
    after: int,
) -> None:
    """Send the events of a background response after the number `after`, and later ones, until it has ended.

    Args:
        app: Gives access to the stored response.
        exchange: The reader's request.
        principal: The reader.
        job: The response.
        first: Its events 0 and 1.
        render: Returns its current state.
        after: Number of the last event that the client has; -1: none.
    """
    job_id, desk = job.job_id, app.desk
    exchange.watch()
    exchange.start_stream(EVENT_STREAM)
    if after < 1:
        await _send(exchange, b"".join(first[after + 1 :]))
    sent, silent_s = max(1, after), 0.0
    while True:
        has_ended = job.final  # checked before reading events, so that all of them are there at the end
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
            job = await find_job(app, None, job_id, app.serving.reception.current(principal))
        except (NotFound, Unauthenticated) as fault:  # it was deleted meanwhile, or its reader may not read it any more
            exchange.error_code = fault.code
            await exchange.end_stream(event_of("error", sent + 1, code=fault.code, message=fault.message, param=None))
            return
    last = max(1, await desk.call(partial(desk.events.last, job_id)))
    await exchange.end_stream(await _end(job, render, last + 1) if after <= last else b"")


async def _send(exchange: Exchange, events: bytes) -> None:
    """Send events, and wait until the client has read most of them; no more are loaded before."""
    exchange.hold.grow(len(events))
    exchange.put(events)
    await exchange.caught_up()
    exchange.hold.shrink_to(0)


async def _end(job: Job, render: Render, number: int) -> bytes:
    """Return the last event, which has the stored response."""
    response = await render(job)
    status = msgspec.json.decode(response, type=_Ended).status
    kind = f"response.{status}" if status in ("completed", "incomplete") else "response.failed"
    return event_of(kind, number, response=msgspec.Raw(response))


class _Ended(msgspec.Struct):
    status: str


def _behind(events: bytes, number: int) -> bytes:
    """Return the events of a chunk with a greater number: all, unless the client has a part of the chunk."""
    first = _NUMBER.search(events)
    if first is not None and int(first[1]) > number:
        return events
    kept = []
    for event in events.split(b"\n\n")[:-1]:
        found = _NUMBER.search(event)
        if found is not None and int(found[1]) > number:
            kept.append(event + b"\n\n")
    return b"".join(kept)
