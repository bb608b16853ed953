"""The limit that a worker sets itself: the rule as a table, the meter over a clock, gates that share one limit."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import pytest

from ashore.core.errors import Overloaded
from ashore.data.path import Capacity, ConcurrencyLimit, Cost, Gate, LoopMeter
from ashore.data.path.concurrency import CALM, CEILING, FLOOR, FORGET_S, LAG_S, LOOK_S, Pulse, next_limit

FULL = Pulse(1.0, 2 * LAG_S)
"""No rest, and turns twice as long as they should be."""
WIDE = Pulse(0.5, 10 * LAG_S)
"""Long turns with rest between them: a wide batch."""
QUICK = Pulse(0.95, LAG_S / 4)
DROWNING = Pulse(1.0, 20 * LAG_S)
ONE = Cost(1, 10)


@pytest.mark.parametrize(
    ("limit", "before", "now", "running", "expected"),
    [
        (CEILING, CALM, FULL, 64, CEILING),  # one slow turn is no overload
        (CEILING, FULL, FULL, 256, 128),  # from what runs, not from what might
        (256, FULL, Pulse(1.0, LAG_S * 1.05), 256, 256 * 0.9),
        (256, FULL, DROWNING, 256, 128),  # never by more than half
        (CEILING, FULL, DROWNING, 32, FLOOR),  # a few clients are no overload, however long the turns
        (FLOOR, FULL, FULL, 100, FLOOR),
        (256, FULL, WIDE, 256, 256 * 1.1 + 1),  # it rests: whatever its turns, it could do more
        (256, FULL, QUICK, 256, 257),
        (256, FULL, QUICK, 10, 256),  # nobody asks for more
        (256, FULL, Pulse(0.95, LAG_S * 0.8), 256, 256),
        (CEILING, CALM, CALM, 0, CEILING),
    ],
)
def test_next_limit(limit: float, before: Pulse, now: Pulse, running: int, expected: float) -> None:
    assert next_limit(limit, before, now, running=running) == pytest.approx(expected)


def test_a_limit_is_forgotten_within_some_seconds_of_rest() -> None:
    limit: float = FLOOR
    for _ in range(int(8 / LOOK_S)):
        limit = next_limit(limit, CALM, CALM, running=0)
    assert limit == CEILING
    assert next_limit(FLOOR, CALM, CALM, running=0, looks=1000) > 10_000  # nobody looked while nobody came


def test_the_meter_tells_work_from_rest_and_long_turns_from_short_ones() -> None:
    now = [0.0]
    meter = LoopMeter(lambda: now[0])
    try:
        for turn_s in (0.030, 0.010):
            now[0] += turn_s
            meter.select(0)  # others are ready: no rest, however long it takes
        pulse = meter.take()
        assert pulse.busy == 1.0
        assert pulse.lag_s == pytest.approx((0.030**2 + 0.010**2) / 0.040)
        assert meter.take() == CALM
        now[0] += 0.005
        assert meter.take().lag_s == pytest.approx(0.005)  # the turn that asks is counted too
    finally:
        meter.close()


def test_a_loop_that_waits_is_at_rest_and_one_that_computes_is_not() -> None:
    meter = LoopMeter()

    async def scenario() -> tuple[Pulse, Pulse]:
        meter.take()
        await asyncio.sleep(0.05)
        rest = meter.take()
        until = time.perf_counter() + 0.05
        while time.perf_counter() < until:
            await asyncio.sleep(0)
        return rest, meter.take()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(meter)) as runner:
        rest, work = runner.run(scenario())
    assert rest.busy < 0.3 < 0.9 < work.busy


class Script:
    """A meter that says what it is told to say."""

    def __init__(self, *pulses: Pulse) -> None:
        self.pulses = deque(pulses)

    def take(self) -> Pulse:
        return self.pulses.popleft() if self.pulses else CALM


def limit_of(*pulses: Pulse, running: int = 0) -> tuple[ConcurrencyLimit, list[float]]:
    """Return a limit that saw these pulses, one look apart, and the clock that it goes by."""
    now = [100.0]
    limit = ConcurrencyLimit(Script(*pulses), clock=lambda: now[0])
    limit.took(running, "")
    for _ in pulses:
        now[0] += 1.01 * LOOK_S
        limit.look()
    return limit, now


def test_pressure_needs_two_looks_and_passes_with_time() -> None:
    assert not limit_of(DROWNING, running=200)[0].pressed
    limit, now = limit_of(DROWNING, DROWNING, running=200)
    assert limit.pressed and limit.drowning("")
    now[0] += FORGET_S + 0.1
    assert not limit.pressed and not limit.drowning("")
    limit.look()
    assert not limit.pressed
    assert not limit_of(WIDE, WIDE, running=8)[0].pressed


def test_a_worker_busy_with_kept_answers_alone_does_not_drown() -> None:
    limit, _ = limit_of(DROWNING, DROWNING)
    assert limit.pressed and not limit.drowning("")


def test_a_machine_that_stands_still_for_a_moment_does_not_make_a_full_loop_drown() -> None:
    limit, _ = limit_of(FULL, FULL, DROWNING, running=200)
    assert limit.pressed and not limit.has_room(1, "") and not limit.drowning("")


def test_thirty_two_clients_are_never_refused_unread() -> None:
    limit, _ = limit_of(*[DROWNING] * 20, running=31)
    assert limit.has_room(1, "") and not limit.drowning("")


def test_without_a_meter_nothing_is_limited() -> None:
    limit = ConcurrencyLimit()
    limit.took(100_000, "")
    limit.look()
    assert limit.has_room(1, "") and not limit.pressed and limit.limit == CEILING


def test_what_an_engine_promises_is_not_given_to_it_by_a_worker_without_time() -> None:
    async def scenario() -> None:
        limit, _ = limit_of(FULL, FULL, running=200)  # now at 100
        limit.gave_back(200, "")
        one = Gate(Capacity(max_running=4096, max_waiting=5, max_tokens=1 << 20), limit=limit)
        for _ in range(100):
            await one.enter(ONE, wait_s=1)
        waiting = [asyncio.create_task(one.enter(ONE, wait_s=5)) for _ in range(5)]
        await asyncio.sleep(0)
        assert (one.load.running, one.load.waiting) == (100, 5)
        with pytest.raises(Overloaded, match="of at most 100 here"):
            await one.enter(ONE, wait_s=5)
        for _ in range(100):
            one.leave(ONE, service_s=0.1)
        await asyncio.gather(*waiting)
        assert one.load.running == 5

    asyncio.run(scenario())


def test_a_slot_that_one_model_gives_back_goes_to_who_waits_for_another() -> None:
    async def scenario() -> None:
        limit, _ = limit_of(FULL, FULL, running=2 * FLOOR)
        limit.gave_back(2 * FLOOR, "")
        capacity = Capacity(max_running=100, max_waiting=5, max_tokens=10_000)
        chat, code = Gate(capacity, limit=limit), Gate(capacity, limit=limit)
        for _ in range(FLOOR):
            await chat.enter(ONE, wait_s=1)
        waiting = asyncio.create_task(code.enter(ONE, wait_s=5))
        await asyncio.sleep(0)
        assert code.load.waiting == 1
        chat.leave(ONE, service_s=0.1)
        await asyncio.wait_for(waiting, 1)
        code.leave(ONE, service_s=0.1)
        code.close()
        chat.leave(ONE, service_s=0.1)  # nobody is called any more at a gate that was closed

    asyncio.run(scenario())


def test_a_worker_without_time_lets_in_who_holds_less_than_its_part_and_refuses_who_holds_more() -> None:
    async def scenario() -> None:
        limit, _ = limit_of(DROWNING, DROWNING, running=2 * FLOOR)
        assert limit.limit == FLOOR
        limit.gave_back(2 * FLOOR, "")
        limit.took(8 * FLOOR, "bob")  # they ran before the limit fell
        capacity = Capacity(max_running=4096, max_waiting=5, max_tokens=1 << 20)
        chat, code = Gate(capacity, limit=limit), Gate(capacity, limit=limit)
        bobs = [asyncio.create_task(code.enter(Cost(1, 10, "bob"), wait_s=5)) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await code.enter(Cost(1, 10, "bob"), wait_s=5)
        assert limit.drowning("bob") and not limit.drowning("alice")
        for gate in (code, chat):  # whatever waits, and wherever it runs
            for _ in range(FLOOR // 4):
                await gate.enter(Cost(1, 10, "alice"), wait_s=1)
        assert limit.drowning("alice") and not limit.has_room(1, "alice")
        assert limit.has_room(8, "carol")
        limit.gave_back(8 * FLOOR, "bob")
        code.leave(Cost(1, 10, "alice"), service_s=0.1)
        await asyncio.gather(*bobs)

    asyncio.run(scenario())
