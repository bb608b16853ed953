"""Admission: the rules as a table of cases, the gate under arrivals, cancellation and deadlines."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.errors import DeadlineExceeded, Draining, Overloaded
from ashore.data.path import Capacity, ConcurrencyLimit, Cost, Gate, Load
from ashore.data.path.admission import capacity_for, cost_of, may_start, retry_after_s, verdict

CAPACITY = Capacity(max_running=4, max_waiting=3, max_tokens=100)


@pytest.mark.parametrize(
    ("load", "cost", "expected"),
    [
        (Load(0, 0, 0), Cost(1, 10), "run"),
        (Load(3, 0, 30), Cost(1, 10), "run"),
        (Load(4, 0, 40), Cost(1, 10), "wait"),
        (Load(3, 1, 40), Cost(1, 10), "wait"),  # somebody waits already: nobody overtakes
        (Load(4, 3, 70), Cost(1, 10), "refuse"),
        (Load(4, 2, 70), Cost(2, 10), "refuse"),
        (Load(1, 0, 95), Cost(1, 10), "refuse"),  # tokens
        (Load(0, 0, 0), Cost(1, 1000), "run"),  # alone, however long
        (Load(0, 0, 0), Cost(8, 10), "run"),  # wider than everything, but alone
        (Load(1, 0, 1), Cost(8, 10), "refuse"),  # eight cannot wait where three may
    ],
)
def test_verdict(load: Load, cost: Cost, expected: str) -> None:
    assert verdict(load, CAPACITY, cost) == expected


def test_nothing_runs_where_there_is_no_capacity() -> None:
    none = Capacity(max_running=0, max_waiting=3, max_tokens=100)
    assert verdict(Load(), none, Cost(1, 1)) == "wait"
    assert not may_start(Load(), none, Cost(1, 1))


@given(st.integers(0, 500), st.integers(1, 100), st.floats(0, 1000))
def test_retry_after_is_between_one_second_and_a_minute(waiting: int, running: int, service_s: float) -> None:
    capacity = Capacity(max_running=running, max_waiting=500, max_tokens=1)
    assert 1 <= retry_after_s(Load(running, waiting, 0), capacity, service_s) <= 60


def test_cost_counts_every_sequence_and_no_endless_answer() -> None:
    assert cost_of(prompt_tokens=10, max_new_tokens=5, sequences=2) == Cost(2, 30)
    assert cost_of(prompt_tokens=10, max_new_tokens=1_000_000, sequences=1).tokens == 10 + 1024


def test_the_operator_may_only_narrow_what_replicas_hold() -> None:
    limits = {"max_waiting": 9, "max_tokens": 0, "replica_sequences": 64, "kv_tokens": 1000}
    assert capacity_for(max_running=0, **limits).max_running == 64
    assert capacity_for(max_running=8, **limits).max_running == 8
    assert capacity_for(max_running=999, **limits).max_running == 64


def gate(running: int = 1, waiting: int = 2) -> Gate:
    return Gate(Capacity(max_running=running, max_waiting=waiting, max_tokens=1000))


ONE = Cost(1, 10)


def test_higher_priority_goes_first_then_who_came_first() -> None:
    async def scenario() -> list[str]:
        one, order = gate(waiting=10), []

        async def client(name: str, priority: int) -> None:
            await one.enter(ONE, priority=priority, wait_s=5)
            order.append(name)
            await asyncio.sleep(0)
            one.leave(ONE, service_s=0.1)

        await one.enter(ONE, wait_s=1)
        tasks = []
        for name, priority in (("a", 0), ("b", 0), ("urgent", 5), ("later", -1)):
            tasks.append(asyncio.create_task(client(name, priority)))
            await asyncio.sleep(0)
        one.leave(ONE, service_s=0.1)
        await asyncio.gather(*tasks)
        assert one.load == Load(0, 0, 0)
        return order

    assert asyncio.run(scenario()) == ["urgent", "a", "b", "later"]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def scenario() -> None:
        one = gate(running=1, waiting=1)
        await one.enter(ONE, wait_s=1)
        waiting = asyncio.create_task(one.enter(ONE, wait_s=5))
        await asyncio.sleep(0)
        began = time.perf_counter()
        with pytest.raises(Overloaded) as refusal:
            await one.enter(ONE, wait_s=5)
        assert time.perf_counter() - began < 1
        assert refusal.value.retry_after_s is not None
        assert refusal.value.retry_after_s >= 1
        waiting.cancel()

    asyncio.run(scenario())


def test_the_deadline_ends_the_wait_and_gives_the_place_back() -> None:
    async def scenario() -> None:
        one = gate(waiting=1)
        await one.enter(ONE, wait_s=1)
        with pytest.raises(DeadlineExceeded):
            await one.enter(ONE, wait_s=0.02)
        assert one.load == Load(1, 0, 10)
        one.leave(ONE, service_s=0.1)
        assert one.load == Load(0, 0, 0)

    asyncio.run(scenario())


def test_a_client_that_goes_away_gives_its_place_back() -> None:
    async def scenario() -> None:
        one = gate(waiting=5)
        await one.enter(ONE, wait_s=1)
        first = asyncio.create_task(one.enter(ONE, wait_s=5))
        second = asyncio.create_task(one.enter(ONE, wait_s=5))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert one.load == Load(1, 1, 20)
        one.leave(ONE, service_s=0.1)
        await second
        # called and cancelled in the same turn of the loop: the slot must not be lost
        third = asyncio.create_task(one.enter(ONE, wait_s=5))
        await asyncio.sleep(0)
        one.leave(ONE, service_s=0.1)
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        assert one.load == Load(0, 0, 0)

    asyncio.run(scenario())


def test_nobody_overtakes_a_wide_request() -> None:
    async def scenario() -> None:
        one = gate(running=2, waiting=5)
        await one.enter(ONE, wait_s=1)
        wide = asyncio.create_task(one.enter(Cost(2, 20), wait_s=5))
        narrow = asyncio.create_task(one.enter(ONE, wait_s=5))
        await asyncio.sleep(0)
        assert not wide.done()
        assert not narrow.done()
        one.leave(ONE, service_s=0.1)
        await wide
        assert not narrow.done()
        one.leave(Cost(2, 20), service_s=0.1)
        await narrow

    asyncio.run(scenario())


def test_draining_refuses_the_new_and_keeps_the_old() -> None:
    async def scenario() -> None:
        one = gate()
        await one.enter(ONE, wait_s=1)
        waiting = asyncio.create_task(one.enter(ONE, wait_s=5))
        await asyncio.sleep(0)
        one.drain()
        with pytest.raises(Draining):
            await one.enter(ONE, wait_s=1)
        one.leave(ONE, service_s=0.1)
        await waiting

    asyncio.run(scenario())


class Full(ConcurrencyLimit):
    """Of a worker that drives what it can."""

    def has_room(self, sequences: int) -> bool:
        return False


def test_who_comes_to_a_gate_that_is_closed_is_sent_elsewhere_and_does_not_wait_for_nobody() -> None:
    async def scenario() -> None:
        retired = Gate(CAPACITY, limit=Full())
        retired.close()
        with pytest.raises(Draining):
            await retired.enter(Cost(1, 10), wait_s=0.2)

    asyncio.run(scenario())


def test_more_capacity_calls_those_who_wait() -> None:
    async def scenario() -> None:
        one = gate()
        await one.enter(ONE, wait_s=1)
        waiting = asyncio.create_task(one.enter(ONE, wait_s=5))
        await asyncio.sleep(0)
        one.resize(Capacity(max_running=2, max_waiting=2, max_tokens=1000))
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scenario())
