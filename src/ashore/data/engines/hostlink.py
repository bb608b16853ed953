"""One connection of an API worker to an engine host: frames, hearers of orders, futures of calls.

There is no reader task: the transport passes bytes to this protocol, which decodes a whole batch of events and calls
each order's hearer once per batch, for any number of tokens.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from ashore.core.errors import AshoreError, Conflict, Draining, EngineFailed, HostDied, InvalidRequest
from ashore.core.ids import OrderId
from ashore.data.engines.failures import error_of
from ashore.data.engines.frames import (
    PROTOCOL_VERSION,
    CallFailed,
    Cancel,
    CancelCall,
    Events,
    Farewell,
    FrameReader,
    Generate,
    Hello,
    LoadFailed,
    Rows,
    Scores,
    Stats,
    ToHost,
    ToWorker,
    Vectors,
    decode_to_worker,
    encode,
)
from ashore.data.engines.hostlaunch import why_file
from ashore.data.engines.model import EngineEvent, EngineInfo, Failed, Finished, Order
from ashore.data.engines.orderstream import CancelOrder, OrderHearer
from ashore.kit.decode import UNDECODABLE

ENDED_AT_ONCE: Final = 8
"""Orders whose hearers are told of their end in one turn of the loop. An end is a response and the next request's
beginning, so a wide batch whose sequences end together would keep everybody else out for tens of milliseconds. So many
are still a turn by which an overloaded loop is known (`data/path/concurrency.py`)."""
_READ_BYTES: Final = 256 << 10
_LAST: Final = (Finished, Failed)
"""After these, nothing follows of an order."""


class HostLink(asyncio.Protocol):
    """One connection: its frames, the hearers of its orders, the futures of its calls."""

    def __init__(self, path: Path) -> None:
        self.open = False
        self.greeting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._path = path
        self._info: EngineInfo | None = None
        self._reader = FrameReader()
        self._hearers: dict[OrderId, OrderHearer] = {}
        self._ending: deque[tuple[OrderHearer, list[EngineEvent]]] = deque()
        """Ended orders whose hearers have not received the last events yet."""
        self._calls: dict[int, asyncio.Future[ToWorker]] = {}
        self._parts: dict[int, list[ToWorker]] = {}
        """Received parts of answers in several frames."""
        self._outbox: list[bytes] = []
        """Frames that are sent at the end of this turn of the loop, or with the next message."""
        self._unsent: list[OrderId] = []
        """Orders among them."""
        self._next_call = 0
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def info(self) -> EngineInfo:
        assert self._info is not None, "a link is used only after its host has greeted"
        return self._info

    # --- called by the client

    def start(self, order: Order, hearer: OrderHearer) -> CancelOrder:
        """Send an order, together with all others of this turn of the loop; return a function that cancels it.

        Each send wakes the host, which costs both sides more than the order does; a busy loop starts several in a turn.
        """
        order_id = order.order_id
        if order_id in self._hearers:
            hearer.lose(Conflict(f"order {order_id!r} is running already", hint="give every order an id of its own"))
            return never_began
        try:
            frame = encode(Generate(order))
        except InvalidRequest as error:
            hearer.lose(error)
            return never_began
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._send_all)
        self._outbox.append(frame)
        self._unsent.append(order_id)
        self._hearers[order_id] = hearer
        return partial(self._cancel, order_id)

    async def call(self, make: Callable[[int], ToHost]) -> ToWorker:
        """Send the message that `make` builds around a call's number and return its answer."""
        self._next_call += 1
        call_id = self._next_call
        reply: asyncio.Future[ToWorker] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = reply
        try:
            self.send(make(call_id))
            return await reply
        except asyncio.CancelledError:
            if self.open:  # otherwise the host is gone, and the call with it
                self.send(CancelCall(call_id))
            raise
        finally:
            self._calls.pop(call_id, None)

    async def call_in_parts(self, make: Callable[[int], ToHost]) -> list[ToWorker]:
        """Like `call`, for an answer in several frames; return all of them."""
        parts: list[ToWorker] = []

        def kept(call_id: int) -> ToHost:
            self._parts[call_id] = parts
            return make(call_id)

        try:
            await self.call(kept)
        finally:
            self._parts = {call_id: kept for call_id, kept in self._parts.items() if kept is not parts}
        return parts

    def send(self, message: ToHost) -> None:
        """Send one message after the queued orders. Returns at once."""
        self._outbox.append(encode(message))
        self._send_all()

    def _send_all(self) -> None:
        assert self._transport is not None, "connection_made comes first"
        frames, self._outbox, self._unsent = self._outbox, [], []
        if frames:
            self._transport.write(b"".join(frames))

    async def gone(self) -> None:
        """Wait until the connection has ended."""
        await asyncio.shield(self._closed)

    async def close(self) -> None:
        """Close the connection and wait for its end. May be called twice."""
        if self._transport is not None and not self._closed.done():
            self._transport.abort()
            await self.gone()

    def _cancel(self, order_id: OrderId) -> None:
        if self._hearers.pop(order_id, None) is not None and self.open:
            self.send(Cancel(order_id))

    # --- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                self._take(decode_to_worker(body))
        except (*UNDECODABLE, InvalidRequest) as error:
            self._lose(f"sent what is no frame of ours ({error})")

    def eof_received(self) -> None:
        self._lose("is gone")  # at once: an order started before the transport closes would be lost with it

    def connection_lost(self, error: Exception | None) -> None:
        if isinstance(error, OSError):
            self._read_rest()
        self._lose("is gone")
        if not self._closed.done():
            self._closed.set_result(None)

    def _read_rest(self) -> None:
        """Read what the host sent before it closed. If one of our sends met the closed socket first, the transport
        reads no further, and complete answers would be lost."""
        assert self._transport is not None, "connection_made comes first"
        descriptor = self._transport.get_extra_info("socket").fileno()
        with suppress(OSError):  # it is all read: the connection is broken, or empty
            while data := os.read(descriptor, _READ_BYTES):
                self.data_received(data)

    # --- dispatch

    def _take(self, message: ToWorker) -> None:
        match message:
            case Events(events):
                self._put(events)
            case Hello(version, info):
                self._greet(version, info)
            case LoadFailed(_, failure):
                self._refuse(error_of(failure))
            case CallFailed(call_id, failure):
                self._answer(call_id, error_of(failure))
            case Rows(call_id, last=last) | Scores(call_id, last=last):
                if call_id in self._parts:
                    self._parts[call_id].append(message)
                if last:
                    self._answer(call_id, message)
            case Vectors(call_id) | Stats(call_id):
                self._answer(call_id, message)
            case Farewell():
                self._end(partial(host_left, self._path))

    def _put(self, events: list[EngineEvent]) -> None:
        groups: dict[OrderId, list[EngineEvent]] = {}
        for event in events:
            group = groups.get(event.order_id)
            if group is None:
                groups[event.order_id] = [event]
            else:
                group.append(event)
        begun = bool(self._ending)
        for order_id, group in groups.items():
            hearer = self._hearers.get(order_id)
            if hearer is None:
                continue  # cancelled; the host has our Cancel by now
            if type(group[-1]) not in _LAST:
                hearer.hear(group)
            else:
                del self._hearers[order_id]
                self._ending.append((hearer, group))
        if self._ending and not begun:
            self._tell_ends()

    def _tell_ends(self) -> None:
        """Report the end to some of the orders now, and to the others in later turns of the loop."""
        for _ in range(min(ENDED_AT_ONCE, len(self._ending))):
            hearer, events = self._ending.popleft()
            hearer.hear(events)
        if self._ending:
            asyncio.get_running_loop().call_soon(self._tell_ends)

    def _greet(self, version: int, info: EngineInfo) -> None:
        if version != PROTOCOL_VERSION:
            self._refuse(
                EngineFailed(
                    f"the host at {self._path} speaks protocol {version}, this worker {PROTOCOL_VERSION}",
                    hint="both must come from one release: restart `ashore up`",
                )
            )
            return
        self._info = info
        self.open = True
        if not self.greeting.done():
            self.greeting.set_result(None)

    def _refuse(self, error: AshoreError) -> None:
        if not self.greeting.done():
            _fail(self.greeting, error)

    def _answer(self, call_id: int, answer: ToWorker | AshoreError) -> None:
        reply = self._calls.get(call_id)
        if reply is None or reply.done():
            return
        if isinstance(answer, AshoreError):
            _fail(reply, answer)
        else:
            reply.set_result(answer)

    def _lose(self, what: str) -> None:
        """End all waiting work of this connection, whose host died."""
        with suppress(OSError):  # most were not killed by the supervisor
            what = f"{what}: {why_file(self._path).read_text(encoding='utf-8')}"
        self._end(partial(host_died, self._path, what))

    def _end(self, make_error: Callable[[], AshoreError]) -> None:
        """End all waiting work of this connection, each with an error of its own."""
        self.open = False
        hearers, self._hearers = self._hearers, {}
        unsent, self._outbox, self._unsent = self._unsent, [], []
        self._refuse(make_error())
        for order_id, hearer in hearers.items():
            hearer.lose(host_away(self._path) if order_id in unsent else make_error())
        for reply in self._calls.values():
            if not reply.done():
                _fail(reply, make_error())
        if self._transport is not None:
            self._transport.abort()


def never_began() -> None:
    """Cancel an order that never reached a host."""


def host_died(path: Path, what: str = "is gone") -> HostDied:
    """Return the error for a host that died with unfinished work."""
    return HostDied(
        f"the engine host at {path} {what}", hint="its log says why; the supervisor starts it again with back-off"
    )


def host_away(path: Path) -> HostDied:
    """Return the error for work that never reached a host, since it is gone."""
    error = host_died(path)
    error.taken = False
    return error


def host_left(path: Path) -> Draining:
    """Return the error for work that a host had not begun, or released, before it shut down in order."""
    return Draining(f"the engine host at {path} ended before it took this up", hint="send the request again")


def _fail(future: asyncio.Future[Any], error: AshoreError) -> None:
    """Fail all waiting calls. A caller may be gone already, or have the same error from a failed send."""
    future.set_exception(error)
    future.exception()
