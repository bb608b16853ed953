"""Admission control: pure rules over counts that admit, queue or refuse a request, and a thin asynchronous gate.

A gate belongs to one alias. It never hangs: a request runs, waits in a bounded queue until its deadline, or is refused
at once. In the queue, tenants take turns (`fairness`); within a tenant higher priority goes first. No request overtakes
a big one whose turn it is, so it cannot starve. A tenant that has nothing running and nothing waiting is never refused
because of what others have.

The concurrency that an engine reports is its upper bound. `concurrency` measures how much of that this worker can
drive; `queueing` estimates the time in the queue, and a request that would miss its deadline is refused at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec

from ashore.core.errors import DeadlineExceeded, Draining, Overloaded, Preempted
from ashore.data.path.concurrency import ConcurrencyLimit
from ashore.data.path.fairness import Cost, First, Lines, Shares, Waiter, digest_of, next_of
from ashore.data.path.model import Urgency
from ashore.data.path.queueing import QueuePace, comes_too_late, expected_service_s, expected_wait_s

Verdict = Literal["run", "wait", "refuse"]
Reason = Literal["queue", "late", "loop"]
"""Reason of a refusal: the queue is full, the deadline would be missed, or the worker is short of processor time."""

DEFAULT_TOKENS: Final = 1 << 20
"""Bound on tokens in flight where neither the operator nor a larger KV cache sets one."""
KV_CACHES_IN_FLIGHT: Final = 8
EXPECTED_ANSWER_TOKENS: Final = 1024
"""Answer tokens counted for a request at most: clients leave `max_tokens` out, or ask for far more than they use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The bounds of a gate."""

    max_running: int
    max_waiting: int
    max_tokens: int


class Load(msgspec.Struct, frozen=True, gc=False):
    """The current load of a gate. Created for every check, so it is a struct (a tenth of a dataclass's time)."""

    running: int = 0
    waiting: int = 0
    tokens: int = 0
    """Running and waiting."""

    def __add__(self, other: Load) -> Load:
        return Load(self.running + other.running, self.waiting + other.waiting, self.tokens + other.tokens)


NO_LOAD: Final = Load()


POLL_S: Final = 0.002
"""Interval at which a waiting gate checks whether another worker has freed a slot."""


class OtherGates(Protocol):
    """The gates of the same release in the other workers of this machine. Every method is quick and never fails."""

    def load(self) -> Load:
        """Return their total load."""
        ...

    def firsts(self) -> Sequence[First]:
        """Return the first in line of each that has one."""
        ...

    def called_per_s(self) -> float:
        """Return how many sequences per second leave their queues."""
        ...

    def publish(self, load: Load, first: First | None, called_per_s: float = 0.0) -> None:
        """Publish this gate's load, its first in line and the pace of its queue."""
        ...


class Alone:
    """No other workers."""

    def load(self) -> Load:
        return NO_LOAD

    def firsts(self) -> Sequence[First]:
        return ()

    def called_per_s(self) -> float:
        return 0.0

    def publish(self, load: Load, first: First | None, called_per_s: float = 0.0) -> None:
        """Do nothing: there is no other worker."""


def cost_of(*, prompt_tokens: int, max_new_tokens: int, sequences: int, tenant: str = "", principal: str = "") -> Cost:
    """Return the cost of a request. The prompt is counted once per sequence: the engine may have to hold it so."""
    tokens = sequences * (prompt_tokens + min(max_new_tokens, EXPECTED_ANSWER_TOKENS))
    return Cost(sequences, tokens, tenant, principal)


def capacity_for(
    *, max_running: int, max_waiting: int, max_tokens: int, replica_sequences: int, kv_tokens: int
) -> Capacity:
    """Return the bounds of a gate from the operator's limits (0: automatic) and the capacity that the replicas
    report."""
    return Capacity(
        max_running=min(max_running or replica_sequences, replica_sequences),
        max_waiting=max_waiting,
        max_tokens=max_tokens or max(DEFAULT_TOKENS, KV_CACHES_IN_FLIGHT * kv_tokens),
    )


def verdict(
    load: Load,
    capacity: Capacity,
    cost: Cost,
    *,
    has_room: bool = True,
    goes_first: bool = False,
    may_hold: bool = False,
    may_wait: bool = False,
) -> Verdict:
    """Return whether a request that arrives now runs, waits or is refused.

    Args:
        load: The load of all workers.
        capacity: The bounds.
        cost: The cost of the request.
        has_room: This worker can drive it.
        goes_first: It is the turn of its tenant, although others wait.
        may_hold: Its tenant is within its part of the tokens.
        may_wait: Its tenant is within its part of the queue.
    """
    if load.tokens + cost.tokens > capacity.max_tokens and load.running + load.waiting > 0 and not may_hold:
        return "refuse"
    if has_room and (goes_first or not load.waiting) and may_start(load, capacity, cost):
        return "run"
    return "wait" if may_wait or load.waiting + cost.sequences <= capacity.max_waiting else "refuse"


def may_start(load: Load, capacity: Capacity, cost: Cost) -> bool:
    """Return whether the first in line may run. A request wider than the whole capacity runs alone."""
    if load.running + cost.sequences <= capacity.max_running:
        return True
    return load.running == 0 and capacity.max_running > 0


def retry_after_s(load: Load, capacity: Capacity, mean_service_s: float) -> float:
    """Return the retry time of a refused client: the time for the queue to move through, 1 to 60 s."""
    rounds = (load.waiting + 1) / max(1, capacity.max_running)
    return min(60.0, max(1.0, rounds * mean_service_s))


class Background:
    """A background request: it starts only when no foreground request needs its slot.

    A batch request gives its slot up on demand. The gate calls `on_preempt` once; the caller then ends the request.
    """

    __slots__ = ("_stop", "preempted", "yields")

    def __init__(self, *, yields: bool) -> None:
        """`yields`: a batch request, which may be preempted."""
        self.yields: Final = yields
        self.preempted = False
        """Its slot has been given to another request."""
        self._stop: Callable[[], None] | None = None

    def on_preempt(self, stop: Callable[[], None]) -> None:
        """Call `stop` on preemption; immediately if that has already happened."""
        self._stop = stop
        if self.preempted:
            stop()

    def preempt(self) -> None:
        """Preempt the request. May be called twice."""
        if not self.preempted:
            self.preempted = True
            if self._stop is not None:
                self._stop()


def background_of(urgency: Urgency) -> Background | None:
    """Return the background state for a request of this urgency; None for a foreground request."""
    return None if urgency == "interactive" else Background(yields=urgency == "batch")


def preempted() -> Preempted:
    """Return the error of a preempted request."""
    return Preempted(hint="send it again; it goes on when the server is idle", retry_after_s=1)


@dataclass(slots=True, eq=False, kw_only=True)
class _Waiter(Waiter):
    called: asyncio.Future[None]
    background: Background | None


class Gate:
    """Admission to one alias. Single-threaded: every call is made on the event loop."""

    def __init__(
        self,
        capacity: Capacity,
        neighbours: OtherGates | None = None,
        *,
        limit: ConcurrencyLimit | None = None,
        refused: Callable[[Reason], None] = lambda reason: None,
    ) -> None:
        """Create the gate. With `neighbours`, the bounds hold for all workers of the machine together.

        Tenants take turns over all workers. A slot that one worker frees for another is found there within
        `POLL_S`.

        Args:
            capacity: The bounds.
            neighbours: The gates of the same release in other workers.
            limit: Concurrency limit of this worker, shared by all of its gates.
            refused: Called with the reason of each refusal.
        """
        self._capacity = capacity
        self._neighbours: OtherGates = neighbours or Alone()
        self._is_alone = neighbours is None
        self._look: asyncio.TimerHandle | None = None
        self._running, self._tokens = Shares(), Shares()
        self._queue = Lines[_Waiter]()
        self._background = Lines[_Waiter]()
        """Waiting background requests. They do not count until they run, so they block none."""
        self._yielding: dict[Background, Cost] = {}
        """Requests of batches that run, the newest last."""
        self._last_arrival = 0
        self._mean_service_s, self._mean_tokens, self._num_served = 1.0, 0.0, 0
        self._pace = QueuePace()
        self._limit = limit or ConcurrencyLimit()
        self._limit.join(self._call_own)
        self._refused = refused
        self._draining = False

    @property
    def load(self) -> Load:
        return Load(self._running.total, self._queue.waiting.total, self._tokens.total)

    @property
    def load_of_all(self) -> Load:
        """Total load of all workers of this machine."""
        return self.load if self._is_alone else self.load + self._neighbours.load()

    @property
    def capacity(self) -> Capacity:
        return self._capacity

    def is_full(self, tenant: str | None = None) -> bool:
        """Return whether new requests of a tenant are refused: all slots are taken, none can be preempted, and the
        queue is full. None: of a tenant that has more than its part."""
        if self._yielding:
            return False
        if tenant is None:
            return verdict(self.load_of_all, self._capacity, Cost(1, 0)) == "refuse"
        return self._verdict(Cost(1, 0, tenant)) == "refuse"

    @property
    def retry_after_s(self) -> float:
        """Seconds after which a refused client may expect room."""
        return retry_after_s(self.load_of_all, self._capacity, self._mean_service_s)

    def check_queue(self, tenant: str) -> None:
        """Refuse a request of a tenant early if the queue has no room for it, before more work is spent on it.

        Raises:
            Overloaded: the queue is full.
        """
        if self.is_full(tenant):
            raise self._refusal(Cost(1, 0, tenant))

    def close(self) -> None:
        """Unregister from the worker's shared limit. Nothing runs or waits here any more.

        A request that looked the release up before it was retired is refused with a retryable error: nothing would wake
        it if the limit had no room.
        """
        self._draining = True
        self._limit.part(self._call_own)

    def resize(self, capacity: Capacity) -> None:
        """Apply new bounds. Running requests go on; waiting ones may start."""
        self._capacity = capacity
        self._call_next()

    def drain(self) -> None:
        """Refuse new requests from now on. Running and waiting ones go on, except background work.

        May be called twice.
        """
        self._draining = True
        for waiter in self._background:
            if not waiter.called.done():
                waiter.called.set_exception(_draining())
        self._make_room(lambda: False)

    async def enter(
        self, cost: Cost, *, priority: int = 0, wait_s: float, background: Background | None = None
    ) -> None:
        """Wait for a slot; `leave` must follow exactly once. Cancelling it leaves the queue.

        A `background` request runs only while no foreground request waits, and blocks none while it waits.

        Raises:
            Draining: the server stops.
            Overloaded: the queue is full, or the answer would come after `wait_s`; at once, with `retry_after_s`.
            DeadlineExceeded: no slot was free within `wait_s`.
        """
        if self._draining:
            raise _draining()
        if background is not None:
            await self._enter_behind(cost, priority, wait_s, background)
            return
        self._limit.look()
        self._make_room(lambda: self._verdict(cost, priority) == "run")
        match self._verdict(cost, priority):
            case "refuse":
                raise self._refusal(cost)
            case "run":
                self._begin(cost)
                self._tokens.add(cost.tenant, cost.tokens)
                self._tell()
            case "wait":
                self._check_in_time(cost, priority, wait_s)
                self._tokens.add(cost.tenant, cost.tokens)
                await self._wait(self._queue, cost, priority, wait_s)

    def leave(self, cost: Cost, *, service_s: float, background: Background | None = None) -> None:
        """Give the slot back. `service_s` is how long the request ran; it feeds the estimate in `retry-after`."""
        if background is not None:
            self._yielding.pop(background, None)
            if background.preempted:
                return  # preempted: another request has the slot
        self._end(cost)
        self._tokens.add(cost.tenant, -cost.tokens)
        self._num_served += 1
        share = max(0.1, 1 / self._num_served)
        self._mean_service_s += share * (service_s - self._mean_service_s)
        self._mean_tokens += share * (cost.tokens - self._mean_tokens)
        self._limit.look()
        self._call_next()

    def _begin(self, cost: Cost) -> None:
        self._running.add(cost.tenant, cost.sequences)
        self._limit.took(cost.sequences, cost.tenant)

    def _end(self, cost: Cost) -> None:
        self._running.add(cost.tenant, -cost.sequences)
        self._limit.gave_back(cost.sequences, cost.tenant)

    def _has_room(self, cost: Cost) -> bool:
        return self._limit.has_room(cost.sequences, cost.tenant)

    def _verdict(self, cost: Cost, priority: int = 0) -> Verdict:
        load, capacity = self.load_of_all, self._capacity
        may_hold = self._tokens.within_part(cost.tenant, cost.tokens, capacity.max_tokens)
        goes_first = may_wait = False
        if load.waiting:
            goes_first, may_wait = self._beside_waiting(cost, priority)
        return verdict(
            load,
            capacity,
            cost,
            has_room=self._has_room(cost),
            goes_first=goes_first,
            may_hold=may_hold,
            may_wait=may_wait,
        )

    def _beside_waiting(self, cost: Cost, priority: int) -> tuple[bool, bool]:
        """Return whether a request that arrives now goes before all that wait, and whether its tenant is within its
        part of the queue."""
        waiting, tenant = self._queue.waiting, digest_of(cost.tenant)
        firsts = list(self._neighbours.firsts())
        waits = waiting.of(cost.tenant) > 0
        may_wait = waiting.within_part(cost.tenant, cost.sequences, self._capacity.max_waiting)
        may_wait = may_wait and (waits or all(one.tenant != tenant for one in firsts))
        if waits:
            return False, may_wait
        if (head := self._head()) is not None:
            firsts.append(self._first(head))
        now = time.monotonic_ns()
        firsts.append(First(tenant, self._running.of(cost.tenant), now, -priority, now))
        return next_of(firsts) is firsts[-1], may_wait

    def _check_in_time(self, cost: Cost, priority: int, left_s: float) -> None:
        """Refuse a request that has to wait and would miss its deadline."""
        pace = self._pace.per_s(time.monotonic()) + self._neighbours.called_per_s()
        if pace <= 0:
            return
        ahead = self._queue.ahead(cost, priority)
        if self._queue.waiting.total:  # assume that the other workers' queues are alike
            ahead = round(ahead * self.load_of_all.waiting / self._queue.waiting.total)
        service_s = expected_service_s(self._mean_service_s, cost.tokens, self._mean_tokens)
        if comes_too_late(ahead=ahead, called_per_s=pace, service_s=service_s, left_s=left_s):
            wait_s = expected_wait_s(ahead, pace)
            self._refused("late")
            raise Overloaded(
                f"no room in time: {ahead} sequences go first, which takes some {wait_s:.1f} s, and an answer like "
                f"this one {service_s:.1f} s more; the request has {max(0.0, left_s):.1f} s left",
                hint="send it again after the time in `retry-after`, or give it a later deadline",
                retry_after_s=min(60.0, max(1.0, wait_s + service_s - left_s)),
            )

    def _make_room(self, enough: Callable[[], bool]) -> None:
        """Preempt batch requests, the newest first, until there is room."""
        while self._yielding and not enough():
            background, cost = self._yielding.popitem()
            self._end(cost)
            self._tokens.add(cost.tenant, -cost.tokens)
            background.preempt()
            self._tell()

    async def _enter_behind(self, cost: Cost, priority: int, wait_s: float, background: Background) -> None:
        waiting, most = self._background.waiting, self._capacity.max_waiting
        if not self.load_of_all.waiting and not waiting.total and self._fits(cost):
            self._start_behind(cost, background)
            return
        if waiting.total >= most and not waiting.within_part(cost.tenant, cost.sequences, most):
            raise self._refusal(cost)
        await self._wait(self._background, cost, priority, wait_s, background)

    def _fits(self, cost: Cost) -> bool:
        load = self.load_of_all
        within = load.tokens + cost.tokens <= self._capacity.max_tokens or not load.running
        return within and not load.waiting and self._has_room(cost) and may_start(load, self._capacity, cost)

    def _start_behind(self, cost: Cost, background: Background) -> None:
        self._begin(cost)
        self._tokens.add(cost.tenant, cost.tokens)
        if background.yields:
            self._yielding[background] = cost
        self._tell()

    async def _wait(
        self, queue: Lines[_Waiter], cost: Cost, priority: int, wait_s: float, background: Background | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(
            cost=cost,
            priority=priority,
            arrival=self._now_ns(),
            called=loop.create_future(),
            background=background,
        )
        queue.join(waiter)
        if queue is self._queue:
            self._pace.begin(time.monotonic())
        self._tell()
        alarm = loop.call_later(wait_s, _expire, waiter.called, wait_s)
        try:
            await waiter.called
        except BaseException:
            if waiter.called.done() and not waiter.called.cancelled() and waiter.called.exception() is None:
                # admitted and cancelled in the same turn of the loop
                self.leave(cost, service_s=self._mean_service_s, background=background)
            else:
                self._forget(waiter)
            raise
        finally:
            alarm.cancel()

    def _now_ns(self) -> int:
        """Return the time; never the same twice."""
        self._last_arrival = max(self._last_arrival + 1, time.monotonic_ns())
        return self._last_arrival

    def _forget(self, waiter: _Waiter) -> None:
        self._drop(waiter)
        self._call_next()

    def _drop(self, waiter: _Waiter) -> None:
        """Take a request that has given up out of its line. May be called twice."""
        if waiter.background is not None:
            self._background.leave(waiter)
        elif not waiter.gone:
            self._queue.leave(waiter)
            self._tokens.add(waiter.cost.tenant, -waiter.cost.tokens)

    def _call_next(self) -> None:
        self._call_own()
        for call_own in self._limit.others(self._call_own):
            call_own()

    def _call_own(self) -> None:
        self._call_waiting()
        if not self._queue.waiting.total:
            self._pace.end(time.monotonic())
        self._tell()

    def _call_waiting(self) -> None:
        now_s = time.monotonic()
        while (head := self._head()) is not None:
            if not may_start(self.load_of_all, self._capacity, head.cost) or self._goes_elsewhere(head):
                return
            self._queue.leave(head, called_at=self._now_ns())
            self._begin(head.cost)
            self._pace.called(head.cost.sequences, now_s)
            head.called.set_result(None)
        while (head := self._next(self._background)) is not None and self._fits(head.cost):
            self._background.leave(head, called_at=self._now_ns())
            assert head.background is not None
            self._start_behind(head.cost, head.background)
            head.called.set_result(None)

    def _head(self) -> _Waiter | None:
        """Return the request to call next, of those that this worker can drive."""
        return self._next(self._queue) if self._queue.waiting.total else None

    def _next(self, lines: Lines[_Waiter]) -> _Waiter | None:
        best, turn = None, (0, 0)
        for head in lines.heads():
            if head.called.done():  # it gave up a moment ago
                self._drop(head)
                return self._next(lines)
            its = self._running.of(head.cost.tenant), lines.turn(head.cost.tenant)
            if (best is None or its < turn) and self._has_room(head.cost):
                best, turn = head, its
        return best

    def _first(self, head: _Waiter) -> First:
        tenant = head.cost.tenant
        held, turn = self._running.of(tenant), self._queue.turn(tenant)
        return First(digest_of(tenant), held, turn, -head.priority, head.arrival)

    def _goes_elsewhere(self, head: _Waiter) -> bool:
        """Return whether another worker calls next."""
        others = self._neighbours.firsts()
        return bool(others) and next_of([mine := self._first(head), *others]) is not mine

    def _tell(self) -> None:
        """Publish this gate's load to the other workers; read theirs if that may change a decision here."""
        if self._is_alone:
            return
        head = self._head()  # none that this worker cannot drive: it would block the others
        first = None if head is None else self._first(head)
        self._neighbours.publish(self.load, first, self._pace.per_s(time.monotonic()))
        waits = self._queue.waiting.total or self._background.waiting.total or self._yielding
        if self._look is None and waits:
            self._look = asyncio.get_running_loop().call_later(POLL_S, self._look_around)

    def _look_around(self) -> None:
        self._look = None
        self._limit.look()
        if self._neighbours.load().waiting:
            self._make_room(lambda: may_start(self.load_of_all, self._capacity, Cost(1, 0)))
        self._call_next()

    def _refusal(self, cost: Cost) -> Overloaded:
        load, capacity = self.load_of_all, self._capacity
        self._refused("queue")
        at_most = f" of at most {self._limit.limit} here" if not self._has_room(cost) else ""
        return Overloaded(
            f"no room: {load.running} sequences run{at_most}, {load.waiting} wait (at most {capacity.max_waiting}), "
            f"{load.tokens} tokens in flight (at most {capacity.max_tokens}); "
            f"this request takes {cost.sequences} and {cost.tokens}",
            hint="send it again after the time in `retry-after`, or raise [admission]",
            retry_after_s=self.retry_after_s,
        )


def _draining() -> Draining:
    return Draining(hint="send it to another server, or again later", retry_after_s=5)


def _expire(called: asyncio.Future[None], wait_s: float) -> None:
    if not called.done():
        called.set_exception(
            DeadlineExceeded(
                f"no slot was free within the {wait_s:.1f} s that this request could wait",
                hint="send it again, give it a later deadline, or add a replica",
                retry_after_s=1,
            )
        )
