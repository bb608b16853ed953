"""How long a queue takes: the rules as tables, the pace over a clock, a gate that refuses who would come too late."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ashore.core.errors import Overloaded
from ashore.data.path import Board, Capacity, Cost, Gate, make_board
from ashore.data.path.admission import Load
from ashore.data.path.queueing import (
    FORGET_S,
    LEAST_CALLS,
    WINDOW_S,
    QueuePace,
    comes_too_late,
    expected_service_s,
    expected_wait_s,
)

ONE = Cost(1, 10)


@pytest.mark.parametrize(
    ("ahead", "called_per_s", "service_s", "left_s", "expected"),
    [
        (100, 10.0, 1.0, 12.0, False),
        (100, 10.0, 1.0, 10.5, True),  # called in time, answered too late
        (100, 10.0, 0.0, 9.9, True),
        (100, 0.0, 1.0, 0.1, False),  # nobody knows
        (0, 10.0, 1.0, 2.0, False),
        (0, 10.0, 3.0, 2.0, True),
    ],
)
def test_comes_too_late(ahead: int, called_per_s: float, service_s: float, left_s: float, expected: bool) -> None:
    assert comes_too_late(ahead=ahead, called_per_s=called_per_s, service_s=service_s, left_s=left_s) is expected


def test_the_wait_is_who_goes_first_over_the_pace_and_a_small_request_takes_its_share_of_the_mean() -> None:
    assert expected_wait_s(100, 20.0) == 5.0
    assert expected_wait_s(100, 0.0) == 0.0
    assert expected_service_s(10.0, 100, 1000.0) == 1.0
    assert expected_service_s(10.0, 5000, 1000.0) == 10.0
    assert expected_service_s(10.0, 5000, 0.0) == 10.0


def test_the_pace_counts_only_while_somebody_waits() -> None:
    pace = QueuePace()
    pace.called(100, 1.0)  # nobody waited
    assert pace.per_s(1.0) == 0.0
    pace.begin(10.0)
    pace.called(LEAST_CALLS - 1, 10.0 + WINDOW_S)
    assert pace.per_s(10.5) == 0.0  # too few to say anything
    pace.end(10.0 + WINDOW_S)
    pace.begin(15.0)  # five seconds of an empty queue are not waiting time
    pace.called(LEAST_CALLS + 1, 15.0 + WINDOW_S)
    assert pace.per_s(16.0) == pytest.approx(2 * LEAST_CALLS / (2 * WINDOW_S))
    pace.called(100, 15.0 + 2 * WINDOW_S)
    assert pace.per_s(16.5) == pytest.approx((LEAST_CALLS / WINDOW_S + 100 / WINDOW_S) / 2)


def test_the_pace_of_another_time_is_forgotten() -> None:
    pace = QueuePace()
    pace.begin(0.0)
    pace.called(100, 1.0)
    pace.end(1.0)
    assert pace.per_s(1.0 + FORGET_S) == 100.0
    assert pace.per_s(1.1 + FORGET_S) == 0.0


async def queue_at(gate: Gate, *, waiting: int, served: int) -> list[asyncio.Task[None]]:
    """Fill a gate of one slot, let `served` through it over more than a window, and leave `waiting` in its queue."""
    await gate.enter(ONE, wait_s=60)
    tasks = [asyncio.create_task(gate.enter(ONE, wait_s=60)) for _ in range(served + waiting)]
    await asyncio.sleep(0)
    for at in range(served):
        await asyncio.sleep(WINDOW_S * 1.1 / served)
        gate.leave(ONE, service_s=0.05)
        await tasks[at]
    return tasks[served:]


def test_who_would_come_too_late_is_refused_at_once_and_who_would_not_waits() -> None:
    refusals: list[str] = []

    async def scenario() -> None:
        gate = Gate(Capacity(max_running=1, max_waiting=100, max_tokens=100_000), refused=refusals.append)
        waiting = await queue_at(gate, waiting=40, served=10)  # some 18 a second: 2 s until the last is called
        with pytest.raises(Overloaded, match="40 sequences go first") as refusal:
            await gate.enter(ONE, wait_s=0.5)
        assert refusal.value.retry_after_s is not None and 1 <= refusal.value.retry_after_s < 10
        patient = asyncio.create_task(gate.enter(ONE, wait_s=30))
        urgent = asyncio.create_task(gate.enter(ONE, wait_s=0.5, priority=5))  # nobody goes before it
        other = asyncio.create_task(gate.enter(Cost(1, 10, "other"), wait_s=0.5))  # one goes before it
        await asyncio.sleep(0)
        assert gate.load.waiting == 43
        gate.leave(ONE, service_s=0.05)
        await asyncio.wait({urgent, other}, return_when=asyncio.FIRST_COMPLETED)
        gate.leave(ONE, service_s=0.05)
        await asyncio.gather(urgent, other)
        for task in (*waiting, patient, other):
            task.cancel()

    asyncio.run(scenario())
    assert refusals == ["late"]


def test_a_first_burst_is_let_in_whatever_its_deadlines() -> None:
    async def scenario() -> None:
        gate = Gate(Capacity(max_running=1, max_waiting=100, max_tokens=100_000))
        await gate.enter(ONE, wait_s=1)
        burst = [asyncio.create_task(gate.enter(ONE, wait_s=0.5)) for _ in range(100)]
        await asyncio.sleep(0)
        assert gate.load.waiting == 100
        for task in burst:
            task.cancel()

    asyncio.run(scenario())


def test_workers_tell_each_other_how_quickly_their_queues_move(tmp_path: Path) -> None:
    make_board(tmp_path / "board", num_workers=3)
    boards = [Board(tmp_path / "board", index) for index in range(3)]
    boards[1].neighbours(1).publish(Load(1, 2, 3), None, 12.5)
    boards[2].neighbours(1).publish(Load(1, 2, 3), None, 7.5)
    assert boards[0].neighbours(1).called_per_s() == 20.0
    assert boards[1].neighbours(1).called_per_s() == 7.5
    assert boards[0].neighbours(2).called_per_s() == 0.0
    for board in boards:
        board.close()
