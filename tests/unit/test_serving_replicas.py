"""Connections to hosts that come and go: a reload that ends in its middle, or takes some away as the worker ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from memory_replica import MemoryReplica

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import CorruptBlob, NotReady, Overloaded
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import Principal
from ashore.data.engines import Sampling
from ashore.data.path import BytesText, GenerationRequest, ServedModel, ServingService, Started, Topology, Usage
from ashore.data.path.replicas import ReplicaSet
from ashore.data.releases.room import keep_judging
from ashore.kit.metrics import Metrics

ALICE = Principal(id="alice", tenant=TenantId("acme"), roles=frozenset({"developer"}))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_seat_that_retires_as_the_worker_ends_is_left_in_order_too() -> None:
    async def scenario() -> None:
        made = {"/s/1": MemoryReplica(), "/s/2": MemoryReplica()}
        replicas = ReplicaSet("chat", tuple(made), made.__getitem__, lambda: None)
        replicas.start()
        await settle()
        seat, replica = await replicas.pick(lambda: 1.0)
        seat.in_flight += 1  # and that is still so when it ends
        await replicas.resize([socket for socket in made if socket != seat.socket])
        await settle()
        assert replica.connected, "its answer may end"
        await replicas.stop()
        assert not any(one.connected for one in made.values())
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nobody connects again"

    asyncio.run(scenario())


class Loads(MemoryReplica):
    """Has not loaded yet."""

    async def connect(self, timeout_s: float) -> None:
        await asyncio.sleep(0.001)
        raise NotReady


class Bench:
    """A service whose models are named by what they do."""

    def __init__(self, *releases: str) -> None:
        self.replicas: list[MemoryReplica] = []
        self.service = ServingService(
            topology(*releases or ("chat-1",)),
            make_replica=self._make,
            load_text=self._load,
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
        )

    def _make(self, socket: str) -> MemoryReplica:
        made = Loads() if "loads" in socket else MemoryReplica(token_s=0.02)
        self.replicas.append(made)
        return made

    def _load(self, served: ServedModel) -> BytesText:
        if "worse" in served.release:
            raise ZeroDivisionError
        if "bad" in served.release:
            raise CorruptBlob("its tokenizer is not what was stored")
        return BytesText()

    @property
    def connected(self) -> int:
        return sum(one.connected for one in self.replicas)

    def ask(self, text: str = "hello") -> GenerationRequest:
        return GenerationRequest(
            request_id=RequestId("req"), model="chat", messages=(Message(role="user", content=text),),
            sampling=Sampling(temperature=0.0), max_tokens=200, deadline_s=10.0,
        )  # fmt: skip


def topology(*releases: str) -> Topology:
    """Return what is served: each release under the alias that its name begins with."""
    served = [
        ServedModel(alias=name.partition("-")[0], release=name, kind="fake", sockets=(f"/s/{name}",))
        for name in releases
    ]
    return Topology(models=tuple(served))


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def whole() -> None:
        bench = Bench()
        await bench.service.start()
        try:
            assert await bench.service.connected(2.0)
            await asyncio.wait_for(scenario(bench), 15)
        finally:
            await bench.service.close()
        assert bench.connected == 0
        await settle()
        left = {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        assert not left, "they would connect again and again"

    asyncio.run(whole())


def test_what_a_reload_took_away_is_left_where_the_worker_ends_before_its_last_answer() -> None:
    async def scenario(bench: Bench) -> None:
        stream = bench.service.generate(bench.ask("a long question " * 10), ALICE)
        assert isinstance(await anext(stream), Started)
        await bench.service.apply(topology("chat-2"))
        await asyncio.sleep(0.6)  # longer than anybody who found it has grace to come
        assert bench.connected == 2
        await bench.service.close()
        assert bench.connected == 0
        await stream.aclose()

    run(scenario)


def answering(bench: Bench) -> dict[str, str]:
    return {card.alias: card.release for card in bench.service.models()}


def test_a_model_that_cannot_be_read_is_left_out_and_no_other_one_waits_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(3):
            await bench.service.apply(topology("chat-2", "bad-1", "worse-bad"))
            await settle()
        assert answering(bench) == {"chat": "chat-2"} and bench.service.unreadable.keys() == {
            ("bad", "bad-1"), ("worse", "worse-bad"),
        }  # fmt: skip
        assert caplog.text.count("bad (release bad-1) is left out: it cannot be read: its tokenizer") == 1
        assert caplog.text.count("Traceback") == 1, "what is a bug of ours has its traceback, once"
        await bench.service.apply(topology("chat-3", "other-1"))
        assert answering(bench) == {"chat": "chat-3", "other": "other-1"} and not bench.service.unreadable

    run(scenario)


def test_what_answers_for_an_alias_goes_on_where_what_is_to_follow_cannot_be_read() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.service.apply(topology("chat-bad", "other-1"))
        assert answering(bench) == {"chat": "chat-1", "other": "other-1"}
        events = [event async for event in bench.service.generate(bench.ask(), ALICE)]
        assert isinstance(events[0], Started) and events[0].release == "chat-1" and isinstance(events[-1], Usage)
        assert bench.service.unreadable.keys() == {("chat", "chat-bad")}

    run(scenario)


def test_a_worker_that_can_read_nothing_says_why() -> None:
    bench = Bench("chat-bad", "other-bad")
    with pytest.raises(CorruptBlob, match="its tokenizer"):
        asyncio.run(bench.service.start())


def test_the_state_hears_once_of_a_release_that_a_worker_cannot_read_though_it_was_busy() -> None:
    fallen, busy = list[tuple[str, str]](), [True]

    class Keeper:
        """Twin of the releases in the state."""

        def fell(self, name: str, why: str, evidence: object) -> None:
            if busy.pop() if busy else False:
                raise Overloaded("the state was locked by another process for 5 s")
            fallen.append((name, why))

        def given(self, name: str) -> tuple[()]:
            return ()

    class Routes:
        refreshed = 0

        async def refresh(self) -> None:
            self.refreshed += 1

    async def scenario(bench: Bench) -> None:
        routes = Routes()
        await bench.service.apply(topology("chat-1", "worse-bad"))
        work = asyncio.create_task(keep_judging(bench.service, Keeper(), routes, every_s=0.005))  # type: ignore[arg-type]
        async with asyncio.timeout(5):
            while not fallen:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert fallen == [("worse-bad", "an API worker cannot read it: ZeroDivisionError: ")] and routes.refreshed == 1

    run(scenario)


def test_a_reload_that_is_cut_off_while_its_model_loads_leaves_nothing_and_what_was_there_answers_meanwhile() -> None:
    async def scenario(bench: Bench) -> None:
        reload = asyncio.create_task(bench.service.apply(topology("chat-2loads")))
        await asyncio.sleep(0.05)
        bench.service.take_routes({})  # as at every change of an alias in the state
        events = [event async for event in bench.service.generate(bench.ask(), ALICE)]
        assert isinstance(events[0], Started) and events[0].release == "chat-1" and isinstance(events[-1], Usage)
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload

    run(scenario)
