"""The loop of an engine host: drain the sockets, submit and cancel, step, send. One thread, and it never spins.

Without work it sleeps on its sockets, so a new order starts at once. An engine that computes is stepped as long as it
has orders; for an engine whose events come from elsewhere (`CanWait`), the loop also sleeps on its descriptor.
"""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Sequence
from typing import Final, assert_never

from ashore.core.clock import Clock, SystemClock
from ashore.core.errors import (
    AshoreError,
    Conflict,
    Draining,
    EngineFailed,
    HostDied,
    InvalidRequest,
    UnsupportedByEngine,
)
from ashore.core.ids import OrderId
from ashore.data.engines.failures import failed, failure_of
from ashore.data.engines.frames import (
    PROTOCOL_VERSION,
    CallFailed,
    Cancel,
    CancelCall,
    Distribute,
    Drain,
    Embed,
    Events,
    Farewell,
    Generate,
    GetStats,
    Hello,
    Rest,
    Score,
    Stats,
    ToHost,
    ToWorker,
)
from ashore.data.engines.host.calls import Calls
from ashore.data.engines.host.link import Link, LinkClosed
from ashore.data.engines.model import EngineEvent, EngineInfo, Failed, Finished, Order, SayOrder
from ashore.data.engines.ports import CanSleep, CanWait, Engine, Speaks

STEP_TIMEOUT_S: Final = 0.002
"""Maximum wait inside a step while the engine has orders and nothing to compute (a grammar being compiled)."""
MOST_FAILED_STEPS: Final = 3
"""Steps in a row that may raise before the host gives the engine up; the supervisor starts a fresh one."""
LAST_WORDS_S: Final = 2.0
"""Longest that a host which ends waits for workers to read what it has told them: far below `DRAIN_MARGIN_S`, after
which the supervisor kills it."""

_LAST: Final = (Finished, Failed)
"""After these, nothing follows of an order."""

_log = logging.getLogger(__name__)


class HostLoop:
    """Serves one loaded engine to the workers that connect to `listener`."""

    def __init__(
        self,
        engine: Engine,
        info: EngineInfo,
        listener: socket.socket,
        *,
        drain_s: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        """Make the loop; `run` starts it.

        Args:
            engine: Loaded already. The loop does not close it.
            info: Result of `load`; sent to every worker as greeting.
            listener: Non-blocking listening socket. The loop closes it at its end.
            drain_s: Seconds that running orders have to end once draining starts.
            clock: Time for the drain deadline.
        """
        self._engine = engine
        self._info = info
        self._listener = listener
        self._drain_s = drain_s
        self._clock = clock or SystemClock()
        self._selector = selectors.DefaultSelector()
        self._links: set[Link] = set()
        self._owners: dict[OrderId, Link] = {}
        self._calls = Calls(engine, info.kind, self._deliver)
        self._watched_fd: int | None = None
        self._drain_deadline_s: float | None = None
        self._has_told_draining = False
        self._is_asleep = False
        self._failed_steps = 0
        self._engine_has_news = False
        self._woke_s: float | None = None
        self._wake_receive, self._wake_send = socket.socketpair()
        for end in (self._wake_receive, self._wake_send):
            end.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_receive, selectors.EVENT_READ, self._woken)

    @property
    def wakeup_fd(self) -> int:
        """Descriptor for `signal.set_wakeup_fd`: a byte written to it ends the loop's sleep."""
        return self._wake_send.fileno()

    @property
    def awake_s(self) -> float:
        """Duration of the current turn, and so of its step; 0 while the loop sleeps. Callable from any thread."""
        woke_s = self._woke_s
        return 0.0 if woke_s is None else self._clock.monotonic_s() - woke_s

    def start_draining(self) -> None:
        """Refuse new work; `run` returns once running work has ended, or `drain_s` later. May be called twice, and
        from a signal handler: it sends nothing, since the loop may be in the middle of a message."""
        if self._drain_deadline_s is None:
            self._drain_deadline_s = self._clock.monotonic_s() + self._drain_s

    def stop_now(self) -> None:
        """Make `run` return in its next turn, even with running work. May be called as `start_draining` may."""
        self._drain_deadline_s = self._clock.monotonic_s()

    def run(self) -> None:
        """Serve until drained, then send `Farewell` to every worker. On an unforeseen error no farewell is sent: to the
        workers the host has died.

        Raises:
            HostDied: the engine's backend has ended.
            EngineFailed: the engine raised in `MOST_FAILED_STEPS` steps in a row.
        """
        try:
            while not self._is_drained():
                self._sleep_and_read()
                if self._calls.can_go_on:
                    self._calls.run_slice()
                if self._owners or self._engine_has_news:
                    self._step()
                self._flush()
            self._take_leave()
        finally:
            self._send_rest()
            self._close()

    def _is_drained(self) -> bool:
        if self._drain_deadline_s is None:
            return False
        if not self._has_told_draining:
            self._has_told_draining = True
            _log.info("draining: %d orders running", len(self._owners))
        idle = not self._owners and not self._calls and not any(link.has_backlog for link in self._links)
        return idle or self._clock.monotonic_s() >= self._drain_deadline_s

    # --- sleeping and reading

    def _sleep_and_read(self) -> None:
        sleep_s, self._woke_s = self._sleep_s(), None
        self._engine_has_news = False
        ready = self._selector.select(sleep_s)
        self._woke_s = self._clock.monotonic_s()
        for key, mask in ready:
            if key.data is None:
                self._engine_has_news = True  # `step` reads its descriptor
                continue
            if isinstance(key.data, Link):
                if mask & selectors.EVENT_READ:
                    self._read(key.data)
            else:
                key.data()

    def _sleep_s(self) -> float | None:
        """Seconds to sleep when nothing arrives; None: without limit, 0: not at all."""
        if self._calls.can_go_on:
            return 0.0
        drain_s = None
        if self._drain_deadline_s is not None:
            drain_s = max(0.0, self._drain_deadline_s - self._clock.monotonic_s())
        if not isinstance(self._engine, CanWait):
            return 0.0 if self._owners else drain_s
        fd, wait_s = self._engine.wait_on()
        self._watch(fd)
        if not self._owners:
            return drain_s  # an engine may end while nothing runs; then its descriptor wakes the loop
        if wait_s is None or drain_s is None:
            return wait_s if drain_s is None else drain_s
        return min(wait_s, drain_s)

    def _watch(self, fd: int | None) -> None:
        if fd == self._watched_fd:
            return
        if self._watched_fd is not None:
            self._selector.unregister(self._watched_fd)
        if fd is not None:
            self._selector.register(fd, selectors.EVENT_READ, None)
        self._watched_fd = fd

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        link = Link(sock)
        self._links.add(link)
        self._selector.register(sock, selectors.EVENT_READ, link)
        self._deliver(link, Hello(PROTOCOL_VERSION, self._info))

    def _woken(self) -> None:
        self._wake_receive.recv(4096)

    def _read(self, link: Link) -> None:
        try:
            messages = link.receive()
        except LinkClosed as reason:
            self._drop_link(link, str(reason))
            return
        for message in messages:
            self._take(link, message)

    def _take(self, link: Link, message: ToHost) -> None:
        match message:
            case Generate(order):
                self._submit(link, order)
            case Cancel(order_id):
                if self._owners.get(order_id) is link:
                    self._cancel(order_id)
            case CancelCall(call_id):
                self._calls.cancel(link, call_id)
            case Embed(call_id) | Score(call_id) | Distribute(call_id) if self._drain_deadline_s is not None:
                self._deliver(link, CallFailed(call_id, failure_of(_stopping())))
            case Embed(call_id) | Score(call_id) | Distribute(call_id) if self._is_asleep:
                self._deliver(link, CallFailed(call_id, failure_of(_asleep())))
            case Embed(call_id, batch, tenant):
                self._calls.add_embed(link, call_id, batch, tenant)
            case Score() | Distribute():
                self._calls.add_score(link, message)
            case GetStats(call_id):
                self._deliver(link, Stats(call_id, self._engine.stats()))
            case Rest(call_id, asleep):
                self._deliver(link, self._rest(call_id, asleep))
            case Drain():
                self.start_draining()
            case _:
                assert_never(message)

    def _rest(self, call_id: int, asleep: bool) -> ToWorker:
        """Put the engine to sleep or wake it up, and return the reply for its supervisor."""
        engine = self._engine
        try:
            if not isinstance(engine, CanSleep) or "sleep" not in self._info.features:
                raise UnsupportedByEngine(
                    f"the engine {self._info.kind!r} cannot sleep as it runs now", hint="let it be unloaded instead"
                )
            if asleep and (self._owners or self._calls):
                raise Conflict(f"{len(self._owners)} orders run", hint="ask again when they have ended")
            if asleep:
                self._is_asleep = True  # first: after a failure the engine is not used any more
                engine.sleep()
            else:
                engine.wake()
                self._is_asleep = False
        except AshoreError as error:
            return CallFailed(call_id, failure_of(error))
        _log.info("the model is asleep" if asleep else "the model is awake")
        return Stats(call_id, engine.stats())

    def _submit(self, link: Link, order: Order) -> None:
        try:
            if self._drain_deadline_s is not None:
                raise _stopping()
            if self._is_asleep:
                raise _asleep()
            if order.order_id in self._owners:
                raise Conflict(f"order {order.order_id!r} is already running", hint="give every order a unique id")
            if isinstance(order, SayOrder):
                if not isinstance(self._engine, Speaks):
                    raise UnsupportedByEngine(f"the engine {self._info.kind!r} takes token ids, no messages")
                self._engine.speak(order)
            else:
                self._engine.submit(order)
        except Exception as error:  # noqa: BLE001 - as in a step, but it is known whose order it is
            if not isinstance(error, AshoreError):
                _log.exception("the engine could not take the order %s", order.order_id)
            self._deliver(link, Events([failed(order.order_id, error)]))
            return
        self._owners[order.order_id] = link
        link.orders.add(order.order_id)

    # --- stepping

    def _step(self) -> None:
        try:
            events = self._engine.step(STEP_TIMEOUT_S if self._watched_fd is None else 0.0)
        except HostDied:
            raise  # the engine's backend is gone: the host has died, and its orders are tried on another one
        except Exception as error:  # the outermost loop: an engine error ends its orders, not the host
            _log.exception("an engine step failed; %d orders were ended", len(self._owners))
            self._failed_steps += 1
            self._fail_all(error)
            if self._failed_steps >= MOST_FAILED_STEPS:
                self._take_leave()
                raise EngineFailed(
                    f"{MOST_FAILED_STEPS} steps in a row failed, the last with {type(error).__name__}: {error}",
                    hint="see the tracebacks in the log of this host; the supervisor starts a new host",
                ) from error
            return
        if events:
            self._failed_steps = 0
            self._send_events(events)

    def _send_events(self, events: Sequence[EngineEvent]) -> None:
        batches: dict[Link, list[EngineEvent]] = {}
        owners = self._owners
        for event in events:
            link = owners.get(event.order_id)
            if link is None:
                continue
            batch = batches.get(link)
            if batch is None:
                batch = batches[link] = []
            batch.append(event)
            if type(event) in _LAST:
                del owners[event.order_id]
                link.orders.discard(event.order_id)
        for link, batch in batches.items():
            self._deliver(link, Events(batch))

    def _fail_all(self, error: Exception) -> None:
        events = [failed(order_id, error) for order_id in self._owners]
        for order_id in self._owners:
            self._cancel(order_id)
        self._send_events(events)

    def _cancel(self, order_id: OrderId) -> None:
        try:
            self._engine.cancel(order_id)
        except Exception:  # noqa: BLE001 - an engine that broke in a step may break here too; its orders are told
            _log.exception("the engine could not cancel %s", order_id)

    # --- writing and closing

    def _take_leave(self) -> None:
        """End running work, and tell every worker that nothing else of its work was begun."""
        self._fail_all(Draining("this engine host has stopped", hint="send the request again"))
        for link in list(self._links):
            self._deliver(link, Farewell())

    def _send_rest(self) -> None:
        """Wait until every worker has read its messages, or until `LAST_WORDS_S`."""
        deadline_s = self._clock.monotonic_s() + LAST_WORDS_S
        self._flush()
        with selectors.DefaultSelector() as room:  # its own: unread orders wait in the other one
            for link in self._links:
                if link.has_backlog:
                    room.register(link.sock, selectors.EVENT_WRITE, link)
            while room.get_map() and room.select(max(0.0, deadline_s - self._clock.monotonic_s())):
                self._flush()
                for key in [key for key in room.get_map().values() if not key.data.has_backlog]:
                    room.unregister(key.fileobj)

    def _deliver(self, link: Link, message: ToWorker) -> None:
        """Queue `message`. An answer too large for a frame becomes a failure; a closed link is dropped."""
        try:
            link.send(message)
        except LinkClosed as reason:
            self._drop_link(link, str(reason))
        except InvalidRequest as error:
            call_id = getattr(message, "call_id", None)
            if call_id is None:
                raise
            self._deliver(link, CallFailed(call_id, failure_of(error)))

    def _flush(self) -> None:
        for link in list(self._links):
            if not link.has_backlog:
                continue
            try:
                link.flush()
            except LinkClosed as reason:
                self._drop_link(link, str(reason))
                continue
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.has_backlog else 0)
            if self._selector.get_key(link.sock).events != wanted:
                self._selector.modify(link.sock, wanted, link)

    def _drop_link(self, link: Link, reason: str) -> None:
        """Remove a worker and end its orders; their last events are dropped."""
        if not link.open:
            return
        if link.orders or reason != "closed by the worker":
            level = logging.WARNING if link.orders else logging.DEBUG  # status, doctor and starts ask and leave
            _log.log(level, "a worker's connection ended (%s); %d orders cancelled", reason, len(link.orders))
        self._selector.unregister(link.sock)
        link.close()
        self._links.discard(link)
        self._calls.forget(link)
        for order_id in link.orders:
            self._cancel(order_id)

    def _close(self) -> None:
        for link in list(self._links):
            link.close()
        self._links.clear()
        self._selector.close()
        self._listener.close()
        self._wake_receive.close()
        self._wake_send.close()


def _stopping() -> Draining:
    return Draining("this engine host is stopping", hint="send the request again")


def _asleep() -> Draining:
    return Draining("the model of this engine host is asleep", hint="send the request again")
