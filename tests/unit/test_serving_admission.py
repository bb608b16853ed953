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

    def has_room(self, sequences: int, tenant: str) -> bool:
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


# --- between tenants


def of(tenant: str, principal: str = "", *, sequences: int = 1, tokens: int = 10) -> Cost:
    return Cost(sequences, tokens, tenant, principal)


class Crowd:
    """Clients of one gate, and the order in which they were let in."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, name: str, cost: Cost, *, priority: int = 0) -> None:
        """Send one request that leaves in the turn after it was let in."""

        async def client() -> None:
            await self.gate.enter(cost, priority=priority, wait_s=30)
            self.order.append(name)
            await asyncio.sleep(0)
            self.gate.leave(cost, service_s=0.1)

        self.tasks.append(asyncio.create_task(client()))
        await asyncio.sleep(0)

    async def rest(self) -> list[str]:
        await asyncio.gather(*self.tasks)
        assert self.gate.load == Load()
        return self.order


def test_free_places_go_round_by_tenant_however_many_requests_one_has() -> None:
    async def scenario() -> list[str]:
        crowd = Crowd(gate(running=1, waiting=100))
        await crowd.gate.enter(of("bob"), wait_s=1)
        for number in range(8):
            await crowd.ask(f"bob{number}", of("bob"), priority=100)  # a priority puts off no other tenant
        for number in range(2):
            await crowd.ask(f"alice{number}", of("alice"))
            await crowd.ask(f"carol{number}", of("carol"), priority=-100)
        crowd.gate.leave(of("bob"), service_s=0.1)
        return await crowd.rest()

    order = asyncio.run(scenario())
    assert sorted(order[:3]) == ["alice0", "bob0", "carol0"]
    assert sorted(order[3:6]) == ["alice1", "bob1", "carol1"]
    assert order[6:] == [f"bob{number}" for number in range(2, 8)]


def test_a_free_place_goes_to_the_tenant_that_holds_the_fewest() -> None:
    async def scenario() -> list[str]:
        crowd = Crowd(gate(running=4, waiting=100))
        for _ in range(4):
            await crowd.gate.enter(of("bob"), wait_s=1)
        await crowd.ask("bob", of("bob"))
        await crowd.ask("wide", of("alice", sequences=2))  # the turn is hers: none overtakes her
        crowd.gate.leave(of("bob"), service_s=0.1)
        await asyncio.sleep(0)
        assert crowd.order == []
        for _ in range(3):
            crowd.gate.leave(of("bob"), service_s=0.1)
        return await crowd.rest()

    assert asyncio.run(scenario()) == ["wide", "bob"]


def test_principals_of_a_tenant_take_turns_within_a_priority() -> None:
    async def scenario() -> list[str]:
        crowd = Crowd(gate(running=1, waiting=100))
        await crowd.gate.enter(of("bank"), wait_s=1)
        for number in range(4):
            await crowd.ask(f"ann{number}", of("bank", "ann"))
        await crowd.ask("bea0", of("bank", "bea"))
        await crowd.ask("bea1", of("bank", "bea"))
        await crowd.ask("urgent", of("bank", "ann"), priority=1)
        crowd.gate.leave(of("bank"), service_s=0.1)
        return await crowd.rest()

    assert asyncio.run(scenario()) == ["urgent", "ann0", "bea0", "ann1", "bea1", "ann2", "ann3"]


def test_a_full_queue_refuses_the_tenant_that_fills_it_and_none_that_has_nothing() -> None:
    async def scenario() -> list[str]:
        refused: list[str] = []
        crowd = Crowd(Gate(Capacity(max_running=1, max_waiting=4, max_tokens=60), refused=refused.append))
        await crowd.gate.enter(of("bob"), wait_s=1)
        for number in range(4):
            await crowd.ask(f"bob{number}", of("bob"))
        for tokens in (10, 1000):
            with pytest.raises(Overloaded, match="4 wait"):
                await crowd.gate.enter(of("bob", tokens=tokens), wait_s=30)
        with pytest.raises(Overloaded):
            crowd.gate.check_queue("bob")
        crowd.gate.check_queue("alice")
        for number in range(2):
            await crowd.ask(f"alice{number}", of("alice"))
        with pytest.raises(Overloaded):  # half of the places are her part
            await crowd.gate.enter(of("alice"), wait_s=30)
        assert len(refused) == 4
        crowd.gate.leave(of("bob"), service_s=0.1)
        return await crowd.rest()

    assert asyncio.run(scenario())[:4] == ["bob0", "alice0", "bob1", "alice1"]


def test_requests_that_gave_up_put_their_principal_behind_none() -> None:
    async def scenario() -> list[str]:
        crowd = Crowd(gate(running=1, waiting=200))
        await crowd.gate.enter(of("bank"), wait_s=1)
        for _ in range(80):
            await crowd.ask("gone", of("bank", "ann"))
        await crowd.ask("bea0", of("bank", "bea"))
        await crowd.ask("bea1", of("bank", "bea"))
        gone, crowd.tasks = crowd.tasks[:80], crowd.tasks[80:]
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        await crowd.ask("ann", of("bank", "ann"))
        assert crowd.gate.load == Load(1, 3, 40)
        crowd.gate.leave(of("bank"), service_s=0.1)
        return await crowd.rest()

    assert asyncio.run(scenario()) == ["bea0", "ann", "bea1"]
