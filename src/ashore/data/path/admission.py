"""Admission control: pure rules over counts that admit, queue or refuse a request, and a thin asynchronous gate.

A gate belongs to one alias. It never hangs: a request runs, waits in a bounded queue until its deadline, or is refused
at once. In the queue, higher priority goes first, then earlier arrival. No request overtakes a big one that is first in
line, so it cannot starve.

The concurrency that an engine reports is its upper bound. `concurrency` measures how much of that this worker can
drive; `queueing` estimates the time in the queue, and a request that would miss its deadline is refused at once.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import msgspec

from ashore.core.errors import DeadlineExceeded, Draining, Overloaded, Preempted
from ashore.data.path.concurrency import ConcurrencyLimit
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


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one request: sequences, and tokens of prompt and expected answer over all of them."""

    sequences: int
    tokens: int


_ANYBODY: Final = Cost(1, 0)
"""The minimum cost of any request."""


class Load(msgspec.Struct, frozen=True, gc=False):
    """The current load of a gate. Created for every check, so it is a struct (a tenth of a dataclass's time)."""

    running: int = 0
    waiting: int = 0
    tokens: int = 0
    """Running and waiting."""

    def __add__(self, other: Load) -> Load:
        return Load(self.running + other.running, self.waiting + other.waiting, self.tokens + other.tokens)


NO_LOAD: Final = Load()


Rank = tuple[int, int]
"""Place in line: negative priority, then the moment of arrival (`time.monotonic_ns`). The lowest goes first."""
NOBODY: Final[Rank] = (1 << 62, 1 << 62)
POLL_S: Final = 0.002
"""Interval at which a waiting gate checks whether another worker has freed a slot."""


class OtherGates(Protocol):
    """The gates of the same release in the other workers of this machine. Every method is quick and never fails."""

    def load(self) -> Load:
        """Return their total load."""
        ...

    def first(self) -> Rank:
        """Return the best place in line among their waiting requests, `NOBODY` if none waits."""
        ...

    def called_per_s(self) -> float:
        """Return how many sequences per second leave their queues."""
        ...

    def publish(self, load: Load, first: Rank, called_per_s: float = 0.0) -> None:
        """Publish this gate's load, its first place in line and the pace of its queue."""
        ...


class Alone:
    """No other workers."""

    def load(self) -> Load:
        return NO_LOAD

    def first(self) -> Rank:
        return NOBODY

    def called_per_s(self) -> float:
        return 0.0

    def publish(self, load: Load, first: Rank, called_per_s: float = 0.0) -> None:
        """Do nothing: there is no other worker."""


def cost_of(*, prompt_tokens: int, max_new_tokens: int, sequences: int) -> Cost:
    """Return the cost of a request. The prompt is counted once per sequence: the engine may have to hold it so."""
    return Cost(sequences, sequences * (prompt_tokens + min(max_new_tokens, EXPECTED_ANSWER_TOKENS)))


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


def verdict(load: Load, capacity: Capacity, cost: Cost, *, has_room: bool = True) -> Verdict:
    """Return whether a request that arrives now runs, waits or is refused. `has_room`: this worker can drive it."""
    if load.tokens + cost.tokens > capacity.max_tokens and load.running + load.waiting > 0:
        return "refuse"
    if has_room and not load.waiting and may_start(load, capacity, cost):
        return "run"
    return "wait" if load.waiting + cost.sequences <= capacity.max_waiting else "refuse"


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


@dataclass(slots=True, order=True)
class _Waiter:
    rank: Rank
    cost: Cost = field(compare=False)
    called: asyncio.Future[None] = field(compare=False)
    background: Background | None = field(default=None, compare=False)
    gone: bool = field(default=False, compare=False)


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

        The first in line over all workers goes first. A slot that one worker frees for another is found there within
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
        self._running = self._waiting = self._tokens = 0
        self._queue: list[_Waiter] = []
        self._background: list[_Waiter] = []
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
        return Load(self._running, self._waiting, self._tokens)

    @property
    def load_of_all(self) -> Load:
        """Total load of all workers of this machine."""
        return self.load if self._is_alone else self.load + self._neighbours.load()

    @property
    def capacity(self) -> Capacity:
        return self._capacity

    @property
    def is_full(self) -> bool:
        """Whether new requests are refused: all slots are taken, none can be preempted, and the queue is full."""
        return not self._yielding and self._verdict(_ANYBODY) == "refuse"

    @property
    def retry_after_s(self) -> float:
        """Seconds after which a refused client may expect room."""
        return retry_after_s(self.load_of_all, self._capacity, self._mean_service_s)

    def check_queue(self) -> None:
        """Refuse a request early if the queue has no room for it, before more work is spent on it.

        Raises:
            Overloaded: the queue is full.
        """
        if self.is_full:
            raise self._refusal(_ANYBODY)

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
        self._make_room(lambda: self._verdict(cost) == "run")
        match self._verdict(cost):
            case "refuse":
                raise self._refusal(cost)
            case "run":
                self._begin(cost)
                self._tokens += cost.tokens
                self._tell()
            case "wait":
                self._check_in_time(cost, priority, wait_s)
                self._waiting += cost.sequences
                self._tokens += cost.tokens
                await self._wait(self._queue, cost, priority, wait_s)

    def leave(self, cost: Cost, *, service_s: float, background: Background | None = None) -> None:
        """Give the slot back. `service_s` is how long the request ran; it feeds the estimate in `retry-after`."""
        if background is not None:
            self._yielding.pop(background, None)
            if background.preempted:
                return  # preempted: another request has the slot
        self._end(cost)
        self._tokens -= cost.tokens
        self._num_served += 1
        share = max(0.1, 1 / self._num_served)
        self._mean_service_s += share * (service_s - self._mean_service_s)
        self._mean_tokens += share * (cost.tokens - self._mean_tokens)
        self._limit.look()
        self._call_next()

    def _begin(self, cost: Cost) -> None:
        self._running += cost.sequences
        self._limit.took(cost.sequences)

    def _end(self, cost: Cost) -> None:
        self._running -= cost.sequences
        self._limit.gave_back(cost.sequences)

    def _verdict(self, cost: Cost) -> Verdict:
        has_room = self._limit.has_room(cost.sequences)
        return verdict(self.load_of_all, self._capacity, cost, has_room=has_room)

    def _may_start(self, cost: Cost) -> bool:
        return self._limit.has_room(cost.sequences) and may_start(self.load_of_all, self._capacity, cost)

    def _check_in_time(self, cost: Cost, priority: int, left_s: float) -> None:
        """Refuse a request that has to wait and would miss its deadline."""
        pace = self._pace.per_s(time.monotonic()) + self._neighbours.called_per_s()
        if pace <= 0:
            return
        ahead = self.load_of_all.waiting
        if priority > 0 and self._waiting:  # assume that the other workers' queues are alike
            before = sum(w.cost.sequences for w in self._queue if not w.gone and w.rank[0] <= -priority)
            ahead = round(ahead * before / self._waiting)
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
            self._tokens -= cost.tokens
            background.preempt()
            self._tell()

    async def _enter_behind(self, cost: Cost, priority: int, wait_s: float, background: Background) -> None:
        if not self.load_of_all.waiting and not self._background and self._fits(cost):
            self._start_behind(cost, background)
            return
        if sum(not waiter.gone for waiter in self._background) >= self._capacity.max_waiting:
            raise self._refusal(cost)
        await self._wait(self._background, cost, priority, wait_s, background)

    def _fits(self, cost: Cost) -> bool:
        load = self.load_of_all
        within = load.tokens + cost.tokens <= self._capacity.max_tokens or not load.running
        return within and not load.waiting and self._may_start(cost)

    def _start_behind(self, cost: Cost, background: Background) -> None:
        self._begin(cost)
        self._tokens += cost.tokens
        if background.yields:
            self._yielding[background] = cost
        self._tell()

    async def _wait(
        self, queue: list[_Waiter], cost: Cost, priority: int, wait_s: float, background: Background | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._last_arrival = max(self._last_arrival + 1, time.monotonic_ns())
        waiter = _Waiter((-priority, self._last_arrival), cost, loop.create_future(), background)
        heapq.heappush(queue, waiter)
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

    def _forget(self, waiter: _Waiter) -> None:
        waiter.gone = True
        queue = self._queue if waiter.background is None else self._background
        if waiter.background is None:
            self._waiting -= waiter.cost.sequences
            self._tokens -= waiter.cost.tokens
        if len(queue) > 64 and sum(w.gone for w in queue) * 2 > len(queue):
            queue[:] = [w for w in queue if not w.gone]
            heapq.heapify(queue)
        self._call_next()

    def _call_next(self) -> None:
        self._call_own()
        for call_own in self._limit.others(self._call_own):
            call_own()

    def _call_own(self) -> None:
        self._call_waiting()
        if not self._waiting:
            self._pace.end(time.monotonic())
        self._tell()

    def _call_waiting(self) -> None:
        now_s = time.monotonic()
        while self._queue:
            first = self._queue[0]
            if first.gone or first.called.done():
                heapq.heappop(self._queue)
                continue
            if not self._may_start(first.cost) or self._neighbours.first() < first.rank:
                return
            heapq.heappop(self._queue)
            self._waiting -= first.cost.sequences
            self._begin(first.cost)
            self._pace.called(first.cost.sequences, now_s)
            first.called.set_result(None)
        while self._background:
            first = self._background[0]
            if first.gone or first.called.done():
                heapq.heappop(self._background)
                continue
            if not self._fits(first.cost):
                return
            heapq.heappop(self._background)
            assert first.background is not None
            self._start_behind(first.cost, first.background)
            first.called.set_result(None)

    def _tell(self) -> None:
        """Publish this gate's load to the other workers; read theirs if that may change a decision here."""
        if self._is_alone:
            return
        first = self._first() if self._limit.has_room(1) else NOBODY  # waiting for this worker blocks no other
        self._neighbours.publish(self.load, first, self._pace.per_s(time.monotonic()))
        if self._look is None and (self._queue or self._background or self._yielding):
            self._look = asyncio.get_running_loop().call_later(POLL_S, self._look_around)

    def _first(self) -> Rank:
        if self._queue and not self._queue[0].gone and not self._queue[0].called.done():
            return self._queue[0].rank
        return min((w.rank for w in self._queue if not w.gone and not w.called.done()), default=NOBODY)

    def _look_around(self) -> None:
        self._look = None
        self._limit.look()
        if self._neighbours.load().waiting:
            self._make_room(lambda: may_start(self.load_of_all, self._capacity, _ANYBODY))
        self._call_next()

    def _refusal(self, cost: Cost) -> Overloaded:
        load, capacity = self.load_of_all, self._capacity
        self._refused("queue")
        at_most = f" of at most {self._limit.limit} here" if not self._limit.has_room(cost.sequences) else ""
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
