"""Threads for long texts: a tenant has its share, a principal a smaller one, and who leaves is worked for no longer."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ashore.core.clock import SystemClock
from ashore.core.errors import DeadlineExceeded
from ashore.core.ids import TenantId
from ashore.core.wanted import NoLongerWanted, check_wanted
from ashore.data.authority import Principal
from ashore.data.path.fairthreads import SWITCH_S, FairThreads
from ashore.data.path.guards import Guards
from ashore.data.path.prompt import TURN_S, PromptReader

SOON_S = 10.0


def who(name: str, tenant: str = "bank-a") -> Principal:
    return Principal(id=name, tenant=TenantId(tenant))


class Works:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let_go = threading.Event()
        self.given_up: list[str] = []

    def named(self, name: str) -> Callable[[], str]:
        def work() -> str:
            self.begun.append(name)
            try:
                while not self.let_go.wait(0.002):
                    check_wanted()
            except NoLongerWanted:
                self.given_up.append(name)
                raise
            return name

        return work


async def settled(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not seen():
            await asyncio.sleep(0.002)


Begin = Callable[..., asyncio.Task[str]]


def on_threads(scenario: Callable[[FairThreads, Works, Begin], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        clock, works = SystemClock(), Works()
        threads = FairThreads("texts", clock)

        def begin(principal: Principal, name: str, within_s: float = SOON_S) -> asyncio.Task[str]:
            work = threads.run(principal, works.named(name), deadline_at=clock.monotonic_s() + within_s)
            return asyncio.get_running_loop().create_task(work)

        try:
            await scenario(threads, works, begin)
        finally:
            works.let_go.set()
            threads.close()

    asyncio.run(whole())


def test_one_principal_leaves_places_to_others_of_the_tenant_and_a_tenant_to_other_tenants() -> None:
    async def scenario(threads: FairThreads, works: Works, begin: Begin) -> None:
        tasks = [begin(who("alice"), f"alice-{n}") for n in range(8)]
        await settled(lambda: bool(works.begun))
        tasks += [begin(who("abe"), "abe"), begin(who("ann"), "ann"), begin(who("bob", "bank-b"), "bob")]
        await settled(lambda: len(works.begun) == 3)
        assert sorted(works.begun) == ["abe", "alice-0", "bob"]
        assert threads.waiting == 8  # seven of alice, and ann: the tenant has its share
        works.let_go.set()
        done = await asyncio.gather(*tasks)
        assert sorted(done) == sorted(works.begun) == sorted(["abe", "ann", "bob", *(f"alice-{n}" for n in range(8))])
        assert [one for one in works.begun if one.startswith("alice")] == [f"alice-{n}" for n in range(8)]
        await settled(lambda: threads.at_work == 0)

    on_threads(scenario)


def test_who_leaves_while_waiting_is_never_worked_for() -> None:
    async def scenario(threads: FairThreads, works: Works, begin: Begin) -> None:
        first, second, third = (begin(who("alice"), name) for name in ("first", "second", "third"))
        await settled(lambda: works.begun == ["first"])
        second.cancel()
        await asyncio.wait({second})
        works.let_go.set()
        assert await asyncio.gather(first, third) == ["first", "third"]
        assert works.begun == ["first", "third"]

    on_threads(scenario)


def test_who_leaves_during_the_work_ends_it_and_only_then_is_the_place_free() -> None:
    async def scenario(threads: FairThreads, works: Works, begin: Begin) -> None:
        first = begin(who("alice"), "first")
        await settled(lambda: works.begun == ["first"])
        begin(who("alice"), "second")
        first.cancel()
        await settled(lambda: works.begun == ["first", "second"])
        assert works.given_up == ["first"]

    on_threads(scenario)


def test_the_deadline_holds_for_the_wait_and_for_the_work() -> None:
    async def scenario(threads: FairThreads, works: Works, begin: Begin) -> None:
        running = begin(who("alice"), "running", 0.05)
        waiting = begin(who("alice"), "waiting", 0.02)
        for late in (waiting, running):
            with pytest.raises(DeadlineExceeded, match="before the prompt was read"):
                await late
        await settled(lambda: threads.at_work == 0 and threads.waiting == 0)
        assert works.begun == works.given_up == ["running"]

    on_threads(scenario)


def test_the_event_loop_gets_the_interpreter_sooner_while_something_is_at_work() -> None:
    async def scenario(threads: FairThreads, works: Works, begin: Begin) -> None:
        usual_s = sys.getswitchinterval()
        task = begin(who("alice"), "one")
        await settled(lambda: bool(works.begun))
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
        works.let_go.set()
        await task
        await settled(lambda: threads.at_work == 0)
        assert sys.getswitchinterval() == pytest.approx(usual_s)

    on_threads(scenario)


def test_many_short_prompts_of_one_moment_do_not_hold_up_the_loop() -> None:
    async def scenario() -> tuple[list[bool], bool]:
        threads = FairThreads("texts", SystemClock())
        reader, on_loop = PromptReader(threads, Guards().masker), []

        def work() -> None:
            on_loop.append(threading.current_thread() is threading.main_thread())
            end_s = time.perf_counter() + TURN_S / 2
            while time.perf_counter() < end_s:
                pass

        try:
            later = SystemClock().monotonic_s() + SOON_S
            await asyncio.gather(*(reader.read(100, work, who("ann"), later) for _ in range(30)))
            first = list(on_loop)
            on_loop.clear()
            await reader.read(100, work, who("ann"), later)
            return first, on_loop[0]
        finally:
            threads.close()

    first, afterwards = asyncio.run(scenario())
    assert len(first) == 30 and 1 <= sum(first) <= 3, "what one turn of the loop has time for; the rest is on threads"
    assert afterwards, "in another turn there is time again"
