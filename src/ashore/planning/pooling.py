"""What pooling of accelerators brings: cards in fractions that many models share, simulated request by request.

Every card is cut into equal fractions. A fraction runs one request at a time, which stands for a batch of them; while
its neighbours rest, it may borrow what they leave. Four ways are compared:

    dedicated   each model has fractions of its own, by its mean load, and nothing else
    pooled      any fraction serves any model; it wakes another one when none with the right one is free
    borrowing   pooled, and a fraction whose neighbours rest computes with the whole card
    background  borrowing, and deferred work that yields at once takes the cards on which nothing computes

*Productive* is the time of cards spent on requests that were answered within the objective. Simulated.
Sources: wake times of a sleeping vLLM, 2.2 s for 8B (vllm pull request 48337); popularity of models, Zipf; bursts, a
Gamma-distributed rate that is drawn anew every 20 s.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

Way = Literal["dedicated", "pooled", "borrowing", "background"]
LOOK: Final = -1
"""In place of a slot: look at what waits."""
WAYS: Final[tuple[Way, ...]] = ("dedicated", "pooled", "borrowing", "background")
BURST_S: Final = 20.0
SPREAD: Final = 0.6
"""Standard deviation of the logarithm of a request's work."""
PATIENCE: Final = 0.5
"""Part of the objective that a request waits for a fraction with its model, before another one wakes it."""
STARVED: Final = 0.7
"""Part of the objective after which a model goes before requests that need no waking."""
YIELD: Final = 0.95
"""Part of an idle card that deferred work gets: it gives way, and begins again."""
ASKED_SHARE: Final = 0.99
"""Of the work that must be within the objective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Cards, and what is asked of them."""

    cards: int = 32
    fractions: int = 2
    """Logical cards for each real one."""
    models: int = 64
    popularity: float = 1.1
    """Exponent of Zipf's law."""
    burst: float = 2.0
    """Coefficient of variation of each model's rate."""
    request_s: float = 0.5
    """Mean work of a request, in seconds of a whole card."""
    objective_s: float = 10.0
    """Longest time to an answer that counts."""
    wake_s: float = 2.2
    """To exchange the model of a fraction."""
    overhead: float = 0.03
    """Part of a card that is lost while several of its fractions compute."""
    horizon_s: float = 1200.0
    seed: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, or a batch of them."""

    at_s: float
    model: int
    work_s: float
    """Seconds of a whole card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a way comes to at one load."""

    way: Way
    load: float
    """Cards' worth of work that arrives each second."""
    within: float
    """Part of the work that was answered within the objective."""
    productive: float
    """Part of all cards' time that was spent on such work, and on deferred work."""
    deferred: float
    """The part of that which was deferred work."""
    wakes: int


@dataclass(slots=True)
class _Slot:
    """One fraction."""

    card: int
    model: int
    running: Request | None = None
    left_s: float = 0.0
    """Work that is left, in seconds of a whole card."""
    asleep_s: float = 0.0
    """Until when it wakes a model, and computes nothing."""
    since_s: float = 0.0
    used_s: float = 0.0
    """When its last request ended."""
    version: int = 0


@dataclass(slots=True)
class _State:
    pool: Pool
    way: Way
    slots: list[_Slot]
    own: list[deque[Request]] = field(default_factory=list)
    """What waits, by model."""
    events: list[tuple[float, int, int]] = field(default_factory=list)
    """When, which slot, at which version."""
    good_s: float = 0.0
    idle_s: float = 0.0
    """Time of cards on which nothing computed and nothing woke."""
    done_s: float = 0.0
    wakes: int = 0


def requests_of(pool: Pool, load: float) -> list[Request]:
    """Return the requests of a horizon whose work comes to `load` cards on average, by time."""
    draw = random.Random(pool.seed)
    weights = [1 / (rank + 1) ** pool.popularity for rank in range(pool.models)]
    total = sum(weights)
    shape = 1 / pool.burst**2
    found = []
    for model, weight in enumerate(weights):
        mean = load * weight / total / pool.request_s
        # Many users make a smooth stream: a popular model's bursts are those of its users, added up.
        users = max(1.0, mean * BURST_S)
        at_s = 0.0
        while at_s < pool.horizon_s:
            rate = draw.gammavariate(shape * users, mean / (shape * users))
            end_s, when = at_s + BURST_S, at_s
            while rate > 0 and (when := when + draw.expovariate(rate)) < min(end_s, pool.horizon_s):
                work = pool.request_s * draw.lognormvariate(-(SPREAD**2) / 2, SPREAD)
                found.append(Request(at_s=when, model=model, work_s=work))
            at_s = end_s
    return sorted(found, key=lambda one: one.at_s)


def simulate(pool: Pool, way: Way, load: float) -> Use:
    """Return what a way comes to at one load."""
    state = _State(pool=pool, way=way, slots=_slots(pool, way), own=[deque() for _ in range(pool.models)])
    arrivals = requests_of(pool, load)
    for request in arrivals:
        _until(state, request.at_s)
        state.own[request.model].append(request)
        heapq.heappush(state.events, (request.at_s + PATIENCE * pool.objective_s, LOOK, 0))
        _fill(state, request.at_s)
    _until(state, math.inf)
    for card in state.slots[: pool.cards]:
        _advance(state, card, pool.horizon_s)
    deferred = YIELD * state.idle_s / (pool.cards * pool.horizon_s) if way == "background" else 0.0
    asked = sum(request.work_s for request in arrivals)
    return Use(
        way=way,
        load=asked / pool.horizon_s,
        within=state.good_s / asked if asked else 1.0,
        productive=state.good_s / (pool.cards * pool.horizon_s) + deferred,
        deferred=deferred,
        wakes=state.wakes,
    )


def best_load(pool: Pool, way: Way, *, steps: int = 7) -> Use:
    """Return what a way comes to at the highest load of which `ASKED_SHARE` is answered within the objective."""
    low, high, best = 0.0, float(pool.cards), simulate(pool, way, 0.01 * pool.cards)
    for _ in range(steps):
        middle = (low + high) / 2
        found = simulate(pool, way, middle)
        if found.within >= ASKED_SHARE:
            low, best = middle, found
        else:
            high = middle
    return best


def sensitivity(pool: Pool) -> tuple[tuple[float, Use], ...]:
    """Return what the last way comes to with wake times that are half and one and a half times as long."""
    return tuple(
        (factor, best_load(replace(pool, wake_s=pool.wake_s * factor), "background", steps=6)) for factor in (0.5, 1.5)
    )


def _slots(pool: Pool, way: Way) -> list[_Slot]:
    """Return the fractions with the models that they begin with: by mean load, at least one for each model."""
    total = pool.cards * pool.fractions
    weights = [1 / (rank + 1) ** pool.popularity for rank in range(pool.models)]
    given = [1] * min(pool.models, total) + [0] * max(0, pool.models - total)
    while sum(given) < total:
        given[max(range(len(given)), key=lambda m: weights[m] / (given[m] or math.inf))] += 1
    order = [model for model, num in enumerate(given) for _ in range(num)]
    return [_Slot(card=at % pool.cards, model=model) for at, model in enumerate(order)]


def _speed(state: _State, slot: _Slot, now_s: float) -> float:
    """Return how much of a card a fraction has now."""
    pool = state.pool
    mates = _mates(state, slot)
    busy = sum(one.running is not None and one.asleep_s <= now_s for one in mates)
    if state.way in ("borrowing", "background"):
        return 1.0 if busy <= 1 else (1 - pool.overhead) / busy
    return (1 - pool.overhead) / pool.fractions if busy > 1 else 1 / pool.fractions


def _mates(state: _State, slot: _Slot) -> Sequence[_Slot]:
    return state.slots[slot.card :: state.pool.cards]


def _until(state: _State, end_s: float) -> None:
    """Let everything happen that is over before `end_s`."""
    while state.events and state.events[0][0] <= end_s:
        now_s, at, version = heapq.heappop(state.events)
        if at == LOOK:
            _fill(state, now_s)
            continue
        slot = state.slots[at]
        if slot.version != version or slot.running is None:
            continue
        _advance(state, slot, now_s)
        if slot.left_s <= 1e-9:
            request, slot.running = slot.running, None
            state.done_s += request.work_s
            if now_s - request.at_s <= state.pool.objective_s:
                state.good_s += request.work_s
            slot.used_s = now_s
            _fill(state, now_s)
        _plan(state, slot, now_s)


def _advance(state: _State, slot: _Slot, now_s: float) -> None:
    """Bring the work of all fractions of a card up to date, at the speeds that they had."""
    if now_s <= slot.since_s:
        return
    if all(one.running is None for one in _mates(state, slot)):
        state.idle_s += min(now_s, state.pool.horizon_s) - min(slot.since_s, state.pool.horizon_s)
    speeds = [(one, _speed(state, one, one.since_s)) for one in _mates(state, slot)]
    for one, speed in speeds:
        if one.running is not None and one.asleep_s <= one.since_s:
            one.left_s -= speed * (now_s - one.since_s)
    for one, _ in speeds:
        one.since_s = now_s


def _plan(state: _State, slot: _Slot, now_s: float) -> None:
    """Say when each fraction of a card ends, or wakes."""
    for at in range(slot.card, len(state.slots), state.pool.cards):
        one = state.slots[at]
        one.version += 1
        if one.running is None:
            continue
        waits = one.asleep_s > now_s
        over_s = one.asleep_s if waits else now_s + max(0.0, one.left_s) / _speed(state, one, now_s)
        heapq.heappush(state.events, (over_s, at, one.version))


def _fill(state: _State, now_s: float) -> None:
    """Give what waits to fractions that are free: first to those that have its model; then, where it has waited or no
    fraction has its model, to the one that was used least lately, which wakes it. What is too late is refused."""
    pool = state.pool
    latest_s = pool.objective_s - pool.wake_s - pool.fractions * pool.request_s
    for queue in state.own:
        while queue and now_s - queue[0].at_s > latest_s:
            queue.popleft()
    free = [slot for slot in state.slots if slot.running is None]
    for slot in sorted(free, key=lambda one: _resting(state, one)):
        if state.own[slot.model] and (state.way == "dedicated" or not _starves(state, slot.model, now_s)):
            _begin(state, slot, state.own[slot.model].popleft(), now_s)
    if state.way == "dedicated":
        return
    waiting = sorted((queue[0].at_s, model) for model, queue in enumerate(state.own) if queue)
    have = {slot.model for slot in state.slots}
    for at_s, model in waiting:
        free = [slot for slot in state.slots if slot.running is None]
        if not free:
            return
        if model in have and now_s - at_s < PATIENCE * state.pool.objective_s:
            continue
        slot = min(free, key=lambda one: (one.used_s, _resting(state, one)))
        _begin(state, slot, state.own[model].popleft(), now_s)


def _starves(state: _State, model: int, now_s: float) -> bool:
    """Return whether some other model has waited so long that it goes before a request that needs no waking."""
    first = min((queue[0].at_s for at, queue in enumerate(state.own) if queue and at != model), default=math.inf)
    return now_s - first > STARVED * state.pool.objective_s


def _resting(state: _State, slot: _Slot) -> int:
    """Return how many fractions of a card compute."""
    return sum(one.running is not None for one in _mates(state, slot))


def _begin(state: _State, slot: _Slot, request: Request, now_s: float) -> None:
    _advance(state, slot, now_s)
    slot.running, slot.left_s, slot.since_s = request, request.work_s, now_s
    slot.asleep_s = 0.0
    if slot.model != request.model:
        slot.model, slot.asleep_s = request.model, now_s + state.pool.wake_s
        state.wakes += 1
    _plan(state, slot, now_s)
