"""Simulates cards shared by models: the share of work in time, by sharing method.

A simulation in steps of a tenth of a second, of work in card-seconds and not of tokens. A card is split into slots; a
slot holds one model. A model's requests go to its slot with the shortest queue. Sharing methods:

- `dedicated`: one slot a card. The baseline.
- `fixed`: two slots a card or more, none may use more than its part (MIG profiles, MPS with a limit of threads).
- `borrowing`: the same slots, but a neighbour's idle part is used (time slices, MPS without limits).
- `moving`: as `borrowing`, and every `every_s` slots go from models that need less to those that need more; a slot that
  changes its model does nothing for `wake_s` (vLLM's sleep mode: weights come back from main memory).
- `filled`: as `moving`, and batches, in unlimited supply, use the rest at the lowest priority.

Load: popularity by Zipf's law, and for each model a rate redrawn every twenty seconds (Gamma), so that models peak at
different times. Everything is simulated; no card was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Way = Literal["dedicated", "fixed", "borrowing", "moving", "filled"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)
TICK_S: Final = 0.1
REDRAWN_S: Final = 20.0
WITHIN: Final = 0.99
"""Share of the work that must be in time for the rest to count."""
Work = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The shared cards, and their load."""

    cards: int = 32
    logical: int = 64
    """Slots that the cards are cut into."""
    models: int = 24
    slo_s: float = 10.0
    """From arrival until the work is done."""
    request_s: float = 0.25
    """Mean work of a request, in seconds of a whole card."""
    variation: float = 1.0
    """Coefficient of variation of a model's rate over time."""
    zipf: float = 1.0
    overhead: float = 0.05
    """Share that a card loses while more than one of its slots works."""
    wake_s: float = 2.2
    every_s: float = 5.0
    seconds: float = 600.0
    seed: int = 0

    @property
    def ticks(self) -> int:
        return round(self.seconds / TICK_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Result of one sharing method under a load."""

    way: Way
    load: float
    """Work that came, as a share of the cards."""
    productive: float
    """Work that was done in time, and batches, as a share of the cards."""
    in_time: float
    """Work done in time, as a share of arriving work."""


def demand(pool: Pool, load: float) -> Work:
    """Return card-seconds by model and tick, (models, ticks)."""
    source = np.random.default_rng(pool.seed)
    weights = 1 / np.arange(1, pool.models + 1) ** pool.zipf
    mean = weights / weights.sum() * pool.cards * load
    held = round(REDRAWN_S / TICK_S)
    parts = -(-pool.ticks // held)
    order = 1 / pool.variation**2
    rates = source.gamma(order, 1 / order, (pool.models, parts)) * mean[:, None]
    rates = rates.repeat(held, axis=1)[:, : pool.ticks]
    number = source.poisson(rates * TICK_S / pool.request_s)
    sigma = 0.6
    size = pool.request_s * source.lognormal(-(sigma**2) / 2, sigma, number.shape)
    return np.asarray(number * size, dtype=float)


def share(pool: Pool, way: Way, load: float) -> Shared:
    """Return the share of work in time under a load, for one sharing method.

    Args:
        pool: The shared cards.
        way: Sharing method.
        load: Arriving work as a share of the cards' capacity.
    """
    work = demand(pool, load)
    slots = pool.cards if way == "dedicated" else pool.logical
    each = slots // pool.cards
    home = _spread_out(work.mean(axis=1), slots, each)
    queue = np.zeros(slots)
    asleep = np.zeros(slots)
    came, done = np.zeros((pool.models, pool.ticks)), np.zeros((pool.models, pool.ticks))
    recent, background = work.mean(axis=1) / TICK_S, 0.0
    for tick in range(pool.ticks):
        arriving = work[:, tick]
        came[:, tick] = arriving
        recent += (arriving / TICK_S - recent) * (TICK_S / pool.every_s)
        for model in np.nonzero(arriving)[0]:
            mine = np.nonzero(home == model)[0]
            _pour(queue, mine, float(arriving[model]))
        if way in ("moving", "filled") and tick and tick % round(pool.every_s / TICK_S) == 0:
            _move(pool, home, queue, asleep, recent, each)
        awake = np.where(asleep > 0, 0.0, queue)
        given = _given(awake.reshape(pool.cards, each), way, pool.overhead).reshape(slots)
        queue -= given
        if way == "filled":
            background += float(np.maximum(0.0, (1 - pool.overhead) * TICK_S * pool.cards - given.sum()))
        asleep = np.maximum(0.0, asleep - TICK_S)
        np.add.at(done[:, tick], home, given)
    return _counted(pool, way, came, done, background / (pool.cards * pool.ticks * TICK_S))


def most(pool: Pool, way: Way) -> Shared:
    """Return the greatest load, to 1 %, of which `WITHIN` is in time; a zero load if there is none."""
    low, high, best = 0.0, 1.0, Shared(way=way, load=0.0, productive=0.0, in_time=1.0)
    while high - low > 0.01:
        middle = (low + high) / 2
        seen = share(pool, way, middle)
        if seen.in_time >= WITHIN:
            low, best = middle, seen
        else:
            high = middle
    return best


def bound(pool: Pool) -> float:
    """Return the greatest load, to 1 %, of which any sharing method could have `WITHIN` in time.

    Computed as if all cards were one that any model may use at once, and late work were refused.
    """
    low, high, best = 0.0, 1.0, 0.0
    while high - low > 0.01:
        middle = (low + high) / 2
        came = demand(pool, middle).sum(axis=0)
        if _could_be_in_time(pool, came) >= WITHIN:
            low, best = middle, float(came.sum()) / (pool.cards * pool.ticks * TICK_S)
        else:
            high = middle
    return best


def _could_be_in_time(pool: Pool, came: Work) -> float:
    """Return the share of arriving work, by tick, that the cards together could do in time."""
    waiting = late = 0.0
    for amount in came:
        waiting += amount
        over = max(0.0, waiting - pool.cards * pool.slo_s)
        late += over
        waiting = max(0.0, waiting - over - pool.cards * TICK_S)
    return 1 - late / float(came.sum()) if came.any() else 1.0


def _spread_out(mean: Work, slots: int, each: int) -> NDArray[np.int64]:
    """Return the model of each slot: by mean demand, at least one each, with a model's slots on different cards."""
    number = np.ones(len(mean), np.int64)
    for _ in range(slots - len(mean)):
        number[(mean / number).argmax()] += 1
    order = np.repeat(np.arange(len(mean)), number)[:slots]
    return order.reshape(each, -1).T.reshape(-1) if each > 1 else order


def _pour(queue: Work, mine: NDArray[np.int64], amount: float) -> None:
    """Distribute work over a model's slots so that their queues become equal."""
    order = mine[queue[mine].argsort()]
    levels = queue[order]
    for count in range(1, len(order) + 1):
        level = (levels[:count].sum() + amount) / count
        if count == len(order) or level <= levels[count]:
            queue[order[:count]] = level
            return


def _given(awake: Work, way: Way, overhead: float) -> Work:
    """Return the work done by each slot in a tick, (cards, slots of each)."""
    each = awake.shape[1]
    active = (awake > 0).sum(axis=1, keepdims=True)
    room = TICK_S * np.where(active > 1, 1 - overhead, 1.0)
    given: Work = np.minimum(awake, room / each)
    if way in ("borrowing", "moving", "filled"):
        for _ in range(each - 1):
            left = room - given.sum(axis=1, keepdims=True)
            wanting = awake - given
            those = np.maximum(1, (wanting > 1e-12).sum(axis=1, keepdims=True))
            given = given + np.minimum(wanting, np.maximum(0.0, left) / those)
    return given


def _move(pool: Pool, home: NDArray[np.int64], queue: Work, asleep: Work, recent: Work, each: int) -> None:
    """Reassign slots from models with the least need to those with the most, a few at a time; each keeps one."""
    held = np.bincount(home, minlength=pool.models).astype(float)
    backlog = np.zeros(pool.models)
    np.add.at(backlog, home, queue)
    need = recent + backlog / pool.slo_s * 2
    for _ in range(max(1, pool.logical // 8)):
        taker = int((need / held).argmax())
        spare = np.where(held > 1, need / np.maximum(held - 1, 1e-9), np.inf)
        spare[taker] = np.inf
        giver = int(spare.argmin())
        if not spare[giver] < 0.7 * need[taker] / (held[taker] + 1):
            return
        mine = np.nonzero((home == giver) & (asleep <= 0))[0]
        if not len(mine):
            return
        beside = queue.reshape(-1, each).sum(axis=1)[mine // each]
        slot = int(mine[beside.argmin()])
        left = float(queue[slot])
        home[slot], queue[slot], asleep[slot] = taker, 0.0, pool.wake_s
        held[giver] -= 1
        held[taker] += 1
        _pour(queue, np.nonzero(home == giver)[0], left)


def _counted(pool: Pool, way: Way, came: Work, done: Work, background: float) -> Shared:
    """Count work as in time if as much was done within the objective as had arrived by then."""
    ahead = round(pool.slo_s / TICK_S)
    arrived, finished = came.cumsum(axis=1), done.cumsum(axis=1)
    until = np.minimum(np.arange(pool.ticks) + ahead, pool.ticks - 1)
    short = np.maximum(0.0, arrived - finished[:, until])
    judged = slice(0, pool.ticks - ahead)
    late = float(np.minimum(short, came)[:, judged].sum())
    total = float(came[:, judged].sum())
    room = pool.cards * (pool.ticks - ahead) * TICK_S
    return Shared(
        way=way,
        load=total / room,
        productive=(total - late) / room + background,
        in_time=1 - late / total if total else 1.0,
    )
