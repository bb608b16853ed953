"""The request path over several releases of one alias: weights, switches, a host that falls, shadows, canaries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from memory_replica import MemoryReplica

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import Draining, HostDied, KillsHosts, NotReady
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import Principal
from ashore.data.engines import CancelOrder, GenerateOrder, OrderHearer, Sampling, ScoredText, ScoreText
from ashore.data.path import (
    BytesText,
    GenerationRequest,
    Guards,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
    Usage,
)
from ashore.data.path.replicas import Seat
from ashore.data.releases import EVERYTHING, AliasRoute, Shadowing
from ashore.kit.metrics import Metrics

ALICE = Principal(id="alice", tenant=TenantId("acme"), roles=frozenset({"developer"}))
LIVE_ALONE = AliasRoute(weights=(("chat-1", 1000),))


def ask(text: str = "hello") -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId("req"), model="chat", messages=(Message(role="user", content=text),),
        sampling=Sampling(temperature=0.0), max_tokens=200, deadline_s=10.0,
    )  # fmt: skip


class Hangs(MemoryReplica):
    async def pause(self) -> None:
        await asyncio.sleep(3600)


class Falls(MemoryReplica):
    """Makes no token until it dies, and is away from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.dead = False

    async def connect(self, timeout_s: float) -> None:
        if self.dead:
            raise NotReady
        await super().connect(timeout_s)

    def die(self) -> None:
        self.dead = True
        super().die()

    async def pause(self) -> None:
        while not self.dead:
            await asyncio.sleep(0.002)
        raise HostDied

    async def embed(self, batch: list[list[int]], *, tenant: str = "") -> list[list[float]]:
        await self.pause()
        return []

    async def score(self, texts: list[ScoreText], *, top_logprobs: int = 0, tenant: str = "") -> list[ScoredText]:
        await self.pause()
        return []


class Bench:
    """A service over two releases of `chat`."""

    def __init__(
        self,
        *,
        first: MemoryReplica | None = None,
        second: MemoryReplica | None = None,
        guards: Guards | None = None,
        start_timeout_s: float = 300.0,
    ) -> None:
        self.replicas = {"1": first or MemoryReplica(), "2": second or MemoryReplica()}
        one, two = (
            ServedModel(alias="chat", release=f"chat-{n}", kind="fake", sockets=(f"/s/{n}",)) for n in ("1", "2")
        )
        self.topology, self.metrics = Topology(models=(one,), beside=(two,), start_timeout_s=start_timeout_s), Metrics()
        self.service = ServingService(
            self.topology,
            make_replica=lambda socket: self.replicas[Path(socket).name],
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=self.metrics,
            guards=guards,
        )

    async def answer(self, request: GenerationRequest | None = None) -> list[ServingEvent]:
        return [event async for event in self.service.generate(request or ask(), ALICE)]

    async def release(self, text: str = "hello") -> str:
        started = (await self.answer(ask(text)))[0]
        assert isinstance(started, Started)
        return started.release

    def orders(self, number: str) -> list[GenerateOrder]:
        return self.replicas[number].orders

    async def observed(self, stage: str, count: int = 1) -> dict[tuple[str, str], float]:
        """Wait until so many observations are there; return their means."""
        for _ in range(400):
            found = self.service.trials.take().get(("chat-2", stage), {})
            if found:
                assert all(tally.count >= count for (_, part), tally in found.items() if part == EVERYTHING)
                return {key: tally.mean for key, tally in found.items()}
            await asyncio.sleep(0.005)
        raise AssertionError("nothing was observed")


def run(scenario: Callable[[Bench], Awaitable[None]], bench: Bench | None = None) -> None:
    async def whole() -> None:
        made = bench or Bench()
        await made.service.start()
        await asyncio.sleep(0.02)
        try:
            await asyncio.wait_for(scenario(made), 15)
        finally:
            await made.service.close()

    asyncio.run(whole())


def test_without_a_state_the_topology_leads() -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.release() == "chat-1"
        assert not bench.orders("2")

    run(scenario)


def test_a_switch_holds_from_the_next_request_and_streams_end_where_they_began() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": LIVE_ALONE})
        stream = bench.service.generate(ask("a long enough answer"), ALICE)
        started = await anext(stream)
        await anext(stream)
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),), standby="chat-1")})
        assert await bench.release() == "chat-2"
        rest = [event async for event in stream]
        assert isinstance(started, Started) and started.release == "chat-1" and isinstance(rest[-1], Usage)
        bench.service.take_routes({"chat": LIVE_ALONE})
        assert await bench.release() == "chat-1"

    run(scenario, Bench(first=MemoryReplica(token_s=0.005)))


def test_a_release_that_has_no_host_here_is_left_out() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-9", 1000),))})
        assert await bench.release() == "chat-1"

    run(scenario)


def test_conversations_stay_with_their_release() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-1", 700), ("chat-2", 300)))})
        first = [await bench.release(f"question {n}") for n in range(60)]
        assert 6 <= first.count("chat-2") <= 32
        assert [await bench.release(f"question {n}") for n in range(60)] == first
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-1", 400), ("chat-2", 600)))})
        later = [await bench.release(f"question {n}") for n in range(60)]
        assert all(b == "chat-2" for a, b in zip(first, later, strict=True) if a == "chat-2")

    run(scenario)


def test_a_standby_answers_while_no_host_of_what_is_live_does() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),), standby="chat-1")})
        assert await bench.release() == "chat-2"
        bench.replicas["2"].die()
        assert await bench.release() == "chat-1", "at once, before anybody looked after the host"

    run(scenario)


def test_what_had_no_first_token_when_the_host_died_goes_to_the_standby_at_once() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),), standby="chat-1")})
        begun = [asyncio.create_task(bench.answer(ask(f"question {n}"))) for n in range(20)]
        scored = msgspec.structs.replace(ask("scored"), messages=(), prompt="scored", echo=True, top_logprobs=1)
        begun.append(asyncio.create_task(bench.answer(scored)))
        embedded = asyncio.create_task(
            bench.service.embeddings.embed("chat", ["a", "b"], ALICE, request_id=RequestId("e"), deadline_s=10.0)
        )
        await until(lambda: len(bench.orders("2")) == 20)
        bench.replicas["2"].die()
        async with asyncio.timeout(2):
            answers = await asyncio.gather(*begun)
            assert (await embedded).release == "chat-1"
        for events in answers:
            assert [event.release for event in events if isinstance(event, Started)] == ["chat-1"]
            assert isinstance(events[-1], Usage), "whole"

    run(scenario, Bench(second=Falls()))


class Poisoned(MemoryReplica):
    """Dies of whatever asks for poison, and is back at once."""

    def __init__(self) -> None:
        super().__init__()
        self.deaths = 0

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        if bytes(order.prompt_ids).startswith(b"poison"):
            self.deaths += 1
            self.die()
        return super().start(order, hearer)

    async def embed(self, batch: list[list[int]], *, tenant: str = "") -> list[list[float]]:
        if bytes(batch[0]).startswith(b"poison"):
            self.deaths += 1
            self.die()
        return await super().embed(batch)


def test_a_request_that_kills_its_host_is_handed_on_once() -> None:
    async def scenario(bench: Bench) -> None:
        one, two = bench.replicas["1"], bench.replicas["2"]
        assert isinstance(one, Poisoned) and isinstance(two, Poisoned)
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),), standby="chat-1")})
        with pytest.raises(KillsHosts, match="2 engine hosts of 'chat' died") as told:
            await bench.answer(ask("poison"))
        assert two.deaths >= 1 and one.deaths + two.deaths == 2 and not told.value.retryable
        await until(lambda: one.connected and two.connected)
        with pytest.raises(KillsHosts):
            await bench.service.embeddings.embed("chat", ["poison"], ALICE, request_id=RequestId("e"), deadline_s=10.0)
        assert one.deaths + two.deaths == 4
        await until(lambda: one.connected and two.connected)
        assert await bench.release("harmless") == "chat-2"

    run(scenario, Bench(first=Poisoned(), second=Poisoned()))


def test_without_a_standby_it_kills_its_host_twice_and_no_more() -> None:
    async def scenario(bench: Bench) -> None:
        one = bench.replicas["1"]
        assert isinstance(one, Poisoned)
        bench.service.take_routes({"chat": LIVE_ALONE})
        with pytest.raises(KillsHosts):
            await bench.answer(ask("poison"))
        assert one.deaths == 2
        assert not bench.orders("2")

    run(scenario, Bench(first=Poisoned()))


class Drains(MemoryReplica):
    """Takes nothing new, and is still connected: what it has begun ends there."""

    async def pause(self) -> None:
        raise Draining


def test_a_host_that_drains_gets_nothing_more_and_nobody_is_refused_for_it() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),), standby="chat-1")})
        assert [await bench.release(f"question {n}") for n in range(3)] == ["chat-1"] * 3
        assert len(bench.orders("2")) == 1 and bench.replicas["2"].connected
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),))})
        waiting = asyncio.create_task(bench.answer())
        await asyncio.sleep(0.05)
        assert not waiting.done(), "it waits for the next host, or the next release"
        bench.service.take_routes({"chat": LIVE_ALONE})
        assert isinstance((await waiting)[-1], Usage)

    run(scenario, Bench(second=Drains()))


class Leaves(MemoryReplica):
    """Ends of its own accord just as a request comes, so often; it is back at once."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times_left = times

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        self._leave()
        return super().start(order, hearer)

    async def embed(self, batch: list[list[int]], *, tenant: str = "") -> list[list[float]]:
        self._leave()
        return await super().embed(batch)

    def _leave(self) -> None:
        if self.times_left:
            self.times_left -= 1
            self.leave()


def test_hosts_that_end_of_their_own_accord_are_no_deaths_of_what_they_were_given() -> None:
    async def scenario(bench: Bench) -> None:
        one = bench.replicas["1"]
        assert isinstance(one, Leaves)
        bench.service.take_routes({"chat": LIVE_ALONE})
        assert isinstance((await bench.answer())[-1], Usage)
        assert one.times_left == 0 and len(one.orders) == 4
        one.times_left = 3
        embedded = await bench.service.embeddings.embed(
            "chat", ["a"], ALICE, request_id=RequestId("e"), deadline_s=10.0
        )
        assert len(embedded.vectors) == 1 and one.times_left == 0

    run(scenario, Bench(first=Leaves(3)))


class Unreached(MemoryReplica):
    """Dies before a request reaches it, so often; it is back at once."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times_left = times

    async def pause(self) -> None:
        if self.times_left:
            self.times_left -= 1
            self.die()
            error = HostDied()
            error.taken = False
            raise error


def test_a_host_that_died_before_a_request_reached_it_did_not_die_of_that() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": LIVE_ALONE})
        assert isinstance((await bench.answer())[-1], Usage)
        assert len(bench.orders("1")) == 4

    run(scenario, Bench(first=Unreached(3)))


def test_what_waits_for_a_host_goes_where_the_alias_leads_meanwhile() -> None:
    """Both hosts are away, as when one release makes room for the next: who waits is told when there is an answer."""

    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),))})
        bench.replicas["2"].die()
        waiting = asyncio.create_task(bench.answer())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        bench.service.take_routes({"chat": LIVE_ALONE})
        async with asyncio.timeout(2):
            events = await waiting
        assert isinstance(events[0], Started) and events[0].release == "chat-1"

    run(scenario, Bench(second=Falls()))


def test_an_answer_that_had_begun_ends_with_an_error_and_is_not_said_twice() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),), standby="chat-1")})
        stream = bench.service.generate(ask("a long enough answer"), ALICE)
        assert isinstance(await anext(stream), Started)
        await anext(stream)
        bench.replicas["2"].die()
        with pytest.raises(HostDied):
            async for _ in stream:
                pass
        assert not bench.orders("1")

    run(scenario, Bench(second=MemoryReplica(token_s=0.5)))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.002)


def test_a_shadow_gets_copies_and_no_client_hears_of_it() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes(
            {"chat": AliasRoute(weights=(("chat-1", 1000),), shadow=Shadowing(release="chat-2", share=1000))}
        )
        events = await bench.answer()
        assert {e.release for e in events if isinstance(e, Started)} == {"chat-1"}
        means = await bench.observed("shadow")
        assert len(bench.orders("2")) == 1 and len(bench.orders("1")) == 1
        assert means["errors", EVERYTHING] == 0 and means["agreement", EVERYTHING] == 1
        assert means["likelihood", EVERYTHING] == 0, "as likely to itself, token by token"
        assert ("errors", "tenant acme") in means

    run(scenario)


def test_a_shadow_that_hangs_or_is_gone_costs_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes(
            {"chat": AliasRoute(weights=(("chat-1", 1000),), shadow=Shadowing(release="chat-2", share=1000))}
        )
        for number in range(60):
            assert await bench.release(f"q{number}") == "chat-1"
        assert bench.service.trials.dropped >= 40, "what does not fit is dropped, and nobody waits"
        assert len(bench.orders("2")) == 1

    run(scenario, Bench(second=Hangs()))


def test_answers_of_a_canary_are_laid_beside_those_of_what_is_live() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes(
            {"chat": AliasRoute(weights=(("chat-1", 500), ("chat-2", 500)), watched=("chat-2", "chat-1"))}
        )
        for number in range(20):
            await bench.answer(ask(f"question {number}"))
        means = await bench.observed("canary")
        assert means["errors", EVERYTHING] == 0 and means["slower", EVERYTHING] == 1

    run(scenario, Bench(first=MemoryReplica(token_s=0.001), second=MemoryReplica(token_s=0.03)))


def test_gauges_of_a_release_that_is_gone_are_dropped() -> None:
    async def scenario(bench: Bench) -> None:
        metrics = bench.metrics
        await bench.service.measure()
        page = metrics.page().decode()
        assert 'ashore_replicas_ready{model="chat"} 1.0' in page and 'ashore_replicas_ready{model="chat-2"} 1.0' in page
        await bench.service.apply(Topology(models=bench.topology.models))
        await bench.service.measure()
        page = metrics.page().decode()
        assert 'ashore_replicas_ready{model="chat"} 1.0' in page and 'model="chat-2"' not in page

    run(scenario)


def test_who_waits_already_has_that_patience_too_once_this_worker_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor may end hosts before a busy worker has read why."""
    monkeypatch.setattr("ashore.data.path.generation.REPLICA_WAIT_S", 1.0)

    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": LIVE_ALONE})
        bench.replicas["1"].die()
        waiting = asyncio.create_task(bench.answer())
        await asyncio.sleep(0.05)
        bench.service.take_routes({"chat": replace(LIVE_ALONE, loads_in_place=True)})
        await asyncio.sleep(1.1)
        assert not waiting.done()
        bench.service.take_routes({"chat": AliasRoute(weights=(("chat-2", 1000),))})
        assert isinstance((await waiting)[-1], Usage)

    run(scenario, Bench(first=Falls(), start_timeout_s=10.0))


def test_what_a_host_said_that_drained_is_not_held_against_the_one_behind_it() -> None:
    async def scenario() -> None:
        replicas = [MemoryReplica(), MemoryReplica()]
        seat = Seat("/s/1", lambda socket: replicas.pop(0), lambda: None)
        seat.start()
        await until(lambda: seat.replica is not None)
        first = seat.replica
        assert isinstance(first, MemoryReplica)
        first.die()
        await until(lambda: seat.replica not in (None, first))
        seat.suspect(first, Draining("this engine host is stopping"))
        assert seat.replica is not None
        await seat.stop()

    asyncio.run(scenario())


def test_who_asks_waits_as_long_as_a_release_may_take_that_loads_in_the_place_of_another() -> None:
    """The one that made room is gone; the wait for a host that fell would be over sooner."""

    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": replace(LIVE_ALONE, loads_in_place=True)})
        bench.replicas["1"].die()
        with pytest.raises(NotReady, match="within 0 s") as told:
            await bench.answer()
        assert told.value.retry_after_s == 5
        bench.service.take_routes({"chat": LIVE_ALONE})
        waiting = asyncio.create_task(bench.answer())
        await asyncio.sleep(0.4)
        assert not waiting.done(), "30 s of patience for a host that restarts"
        waiting.cancel()

    run(scenario, Bench(first=Falls(), start_timeout_s=0.2))
