"""The request path over several releases of one alias: weights, switches, a host that falls, shadows, canaries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from ashore.access import Principal
from ashore.core import Message, RequestId, SystemClock, TenantId
from ashore.engines import GenerateOrder, Sampling
from ashore.metrics import Metrics
from ashore.releases import EVERYTHING, AliasRoute, Shadowing
from ashore.serving import (
    BytesText,
    GenerationRequest,
    Guards,
    MemoryReplica,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
    Usage,
)

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


class Bench:
    """A service over two releases of `chat`."""

    def __init__(
        self,
        *,
        first: MemoryReplica | None = None,
        second: MemoryReplica | None = None,
        guards: Guards | None = None,
    ) -> None:
        self.replicas = {"1": first or MemoryReplica(), "2": second or MemoryReplica()}
        one, two = (
            ServedModel(alias="chat", release=f"chat-{n}", kind="fake", sockets=(f"/s/{n}",)) for n in ("1", "2")
        )
        self.service = ServingService(
            Topology(models=(one,), beside=(two,)),
            make_replica=lambda socket: self.replicas[Path(socket).name],
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
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
        assert means["likelihood", EVERYTHING] == 0
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

    run(scenario, Bench(first=MemoryReplica(token_s=0.001), second=MemoryReplica(token_s=0.006)))
