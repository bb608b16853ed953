"""Several API workers keep one set of limits: their gates tell each other through the board."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ashore.core.errors import InvalidSpec, Overloaded
from ashore.data.path import Board, Capacity, Cost, Gate, make_board
from ashore.data.path.admission import Background, Load
from ashore.data.path.fairness import First

ONE = Cost(1, 10)


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[list[Board]]:
    path = tmp_path / "board"
    make_board(path, num_workers=3)
    assert path.stat().st_mode & 0o777 == 0o600
    made = [Board(path, index) for index in range(3)]
    yield made
    for board in made:
        board.close()


def gates(boards: list[Board], *, running: int = 4, waiting: int = 100, slot: int = 1) -> list[Gate]:
    capacity = Capacity(max_running=running, max_waiting=waiting, max_tokens=10_000)
    return [Gate(capacity, board.neighbours(slot)) for board in boards]


def test_each_worker_reads_what_the_others_carry_and_not_its_own(boards: list[Board]) -> None:
    first = First(tenant=3_000_000_000, held=4, turn=70, order=-5, arrival=77)
    boards[0].neighbours(1).publish(Load(1, 2, 30), first)
    boards[1].neighbours(1).publish(Load(10, 0, 1), None)
    boards[1].neighbours(2).publish(Load(99, 99, 99), first)
    assert boards[2].neighbours(1).load() == Load(11, 2, 31)
    assert boards[0].neighbours(1).load() == Load(10, 0, 1)
    assert boards[2].neighbours(1).firsts() == [first]
    assert boards[0].neighbours(1).firsts() == []


def test_a_worker_that_starts_again_has_a_clean_row_and_a_silent_one_counts_nothing(
    boards: list[Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards[0].neighbours(1).publish(Load(4, 1, 50), First(0, 0, 1, 0, 1))
    again = Board(tmp_path / "board", 0)
    assert boards[1].neighbours(1).load() == Load()
    again.neighbours(1).publish(Load(4, 1, 50), First(0, 0, 1, 0, 1))
    assert boards[1].neighbours(1).load() == Load(4, 1, 50)
    monkeypatch.setattr("ashore.data.path.board.STALE_S", 0.0)
    assert boards[1].neighbours(1).load() == Load() and not boards[1].neighbours(1).firsts()
    again.close()


def test_a_board_without_this_worker_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="No such file"):
        Board(tmp_path / "absent", 0)
    make_board(tmp_path / "board", num_workers=1)
    with pytest.raises(InvalidSpec, match="no worker 1"):
        Board(tmp_path / "board", 1)


def test_together_they_hold_the_limits_and_every_request_gets_its_turn(boards: list[Board]) -> None:
    async def scenario() -> tuple[int, int]:
        found, chance = gates(boards), random.Random(5)
        now = most = served = 0

        async def client(gate: Gate) -> None:
            nonlocal now, most, served
            await gate.enter(ONE, wait_s=20)
            now += 1
            most = max(most, now)
            await asyncio.sleep(chance.random() * 0.004)
            now -= 1
            served += 1
            gate.leave(ONE, service_s=0.002)

        await asyncio.gather(*(client(found[chance.randrange(3)]) for _ in range(90)))
        assert all(gate.load == Load() for gate in found)
        return most, served

    most, served = asyncio.run(scenario())
    assert served == 90
    assert most == 4, "one loop runs all three here, so nothing happens between a look and a step"


def test_who_came_first_goes_first_whichever_worker_has_it(boards: list[Board]) -> None:
    async def scenario() -> list[str]:
        first, second, _ = gates(boards, running=1)
        order: list[str] = []

        async def client(gate: Gate, name: str, priority: int = 0) -> None:
            await gate.enter(ONE, wait_s=5, priority=priority)
            order.append(name)
            await asyncio.sleep(0.001)
            gate.leave(ONE, service_s=0.001)

        await first.enter(ONE, wait_s=1)
        tasks = []
        for gate, name, priority in ((second, "a", 0), (first, "b", 0), (second, "c", 0), (first, "urgent", 1)):
            tasks.append(asyncio.create_task(client(gate, name, priority)))
            await asyncio.sleep(0)
        first.leave(ONE, service_s=0.001)
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(scenario()) == ["urgent", "a", "b", "c"]


def test_tenants_take_turns_over_all_workers_and_priorities_count_within_a_tenant(boards: list[Board]) -> None:
    async def scenario() -> list[str]:
        first, second, _ = gates(boards, running=1)
        order: list[str] = []

        async def client(gate: Gate, name: str, priority: int = 0) -> None:
            cost = Cost(1, 10, name.partition("-")[0])
            await gate.enter(cost, wait_s=5, priority=priority)
            order.append(name)
            await asyncio.sleep(0)
            gate.leave(cost, service_s=0.001)

        await first.enter(ONE, wait_s=1)
        tasks = []
        for gate, name, priority in (
            (first, "bob-1", 0),
            (second, "bob-2", 5),
            (first, "bob-3", 100),
            (second, "alice-1", 0),
            (first, "alice-2", 1),
        ):
            tasks.append(asyncio.create_task(client(gate, name, priority)))
            await asyncio.sleep(0)
        first.leave(ONE, service_s=0.001)
        await asyncio.gather(*tasks)
        return order

    order = asyncio.run(scenario())
    assert [one for one in order if one < "b"] == ["alice-2", "alice-1"]
    assert [one for one in order if one > "b"] == ["bob-3", "bob-2", "bob-1"]
    assert order.index("alice-1") < order.index("bob-1")


def test_a_full_queue_is_full_for_all(boards: list[Board]) -> None:
    async def scenario() -> None:
        first, second, _ = gates(boards, running=1, waiting=1)
        await first.enter(ONE, wait_s=1)
        waiting = asyncio.create_task(second.enter(ONE, wait_s=5))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="1 sequences run, 1 wait"):
            await first.enter(ONE, wait_s=5)
        first.leave(ONE, service_s=0.1)
        await waiting
        second.leave(ONE, service_s=0.1)

    asyncio.run(scenario())


def test_a_batch_in_one_worker_yields_to_somebody_who_waits_in_another(boards: list[Board]) -> None:
    async def scenario() -> bool:
        first, second, _ = gates(boards, running=1)
        batch = Background(yields=True)
        await first.enter(ONE, wait_s=1, background=batch)
        await second.enter(ONE, wait_s=5)
        second.leave(ONE, service_s=0.1)
        first.leave(ONE, service_s=0.1, background=batch)
        return batch.preempted and first.load == second.load == Load()

    assert asyncio.run(scenario())
