"""Work that may wait yields to whoever waits for an answer, at once, and uses what is idle."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ashore.core.errors import DeadlineExceeded, Draining, Overloaded
from ashore.data.path.admission import Background, Capacity, Cost, Gate

ONE = Cost(1, 10)


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an asynchronous test in an event loop of its own."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


def gate(running: int = 2, waiting: int = 2, tokens: int = 1000) -> Gate:
    return Gate(Capacity(max_running=running, max_waiting=waiting, max_tokens=tokens))


@in_loop
async def test_a_batch_uses_what_is_idle_and_the_newest_gives_way() -> None:
    one = gate()
    stopped: list[str] = []
    first, second = Background(yields=True), Background(yields=True)
    for name, background in (("first", first), ("second", second)):
        await one.enter(ONE, wait_s=1, background=background)
        background.on_preempt(lambda name=name: stopped.append(name))
    assert one.load.running == 2
    await asyncio.wait_for(one.enter(ONE, wait_s=1), 0.5)
    assert stopped == ["second"] and one.load.running == 2 and second.preempted and not first.preempted
    one.leave(ONE, service_s=1, background=second)
    assert one.load.running == 2, "its slot had gone already"
    await one.enter(ONE, wait_s=1)
    assert stopped == ["second", "first"]
    one.leave(ONE, service_s=1, background=first)
    one.leave(ONE, service_s=1)
    one.leave(ONE, service_s=1)
    assert one.load.running == 0 and one.load.tokens == 0


@in_loop
async def test_what_cannot_yield_keeps_its_slot() -> None:
    one = gate(running=1, waiting=1)
    background = Background(yields=False)
    await one.enter(ONE, wait_s=1, background=background)
    with pytest.raises(DeadlineExceeded):
        await one.enter(ONE, wait_s=0.01)
    assert not background.preempted


@in_loop
async def test_background_waits_behind_everybody_and_keeps_nobody_out() -> None:
    one = gate(running=1, waiting=2, tokens=30)
    await one.enter(ONE, wait_s=5)
    order: list[str] = []

    async def ask(name: str, background: Background | None) -> None:
        await one.enter(ONE, wait_s=5, background=background)
        order.append(name)

    waiting = [asyncio.create_task(ask(f"b{n}", Background(yields=False))) for n in range(2)]
    await asyncio.sleep(0)
    assert one.load.waiting == 0 and one.load.tokens == 10, "who may wait counts nowhere"
    with pytest.raises(Overloaded):
        await one.enter(ONE, wait_s=5, background=Background(yields=True))
    waiting += [asyncio.create_task(ask(f"i{n}", None)) for n in range(2)]
    await asyncio.sleep(0)
    for _ in range(4):
        one.leave(ONE, service_s=0.1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert order == ["i0", "i1", "b0", "b1"]
    await asyncio.gather(*waiting)


@in_loop
async def test_a_slot_taken_before_the_run_began_is_told_when_it_begins() -> None:
    one = gate(running=1)
    background = Background(yields=True)
    await one.enter(ONE, wait_s=1, background=background)
    await one.enter(ONE, wait_s=1)
    told: list[bool] = []
    background.on_preempt(lambda: told.append(True))
    background.preempt()
    assert told == [True]


@in_loop
async def test_a_drain_sends_away_what_may_wait() -> None:
    one = gate(running=1)
    runs, waits = Background(yields=True), Background(yields=True)
    await one.enter(ONE, wait_s=1, background=runs)
    task = asyncio.create_task(one.enter(ONE, wait_s=5, background=waits))
    await asyncio.sleep(0)
    one.drain()
    with pytest.raises(Draining):
        await task
    assert runs.preempted and one.load.running == 0


@in_loop
async def test_who_leaves_the_background_queue_frees_its_place() -> None:
    one = gate(running=1, waiting=1)
    await one.enter(ONE, wait_s=1)
    task = asyncio.create_task(one.enter(ONE, wait_s=5, background=Background(yields=True)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(DeadlineExceeded):
        await one.enter(ONE, wait_s=0.01, background=Background(yields=True))
    assert one.load.tokens == 10
