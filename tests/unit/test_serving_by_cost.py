"""One alias over unlike models, in memory: who answers, what is kept apart, what happens when one goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from memory_replica import ECHO_INFO, MemoryReplica
from msgspec.structs import replace

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import InvalidSpec
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import Principal
from ashore.data.engines import Sampling
from ashore.data.path import (
    BytesText,
    DispatchSection,
    GenerationRequest,
    RouteByCost,
    ServedModel,
    ServingService,
    Started,
    Topology,
)
from ashore.kit.metrics import Metrics

ALICE = Principal(id="alice", tenant=TenantId("acme"), roles=frozenset({"developer"}))
ROUTE = RouteByCost(alias="chat", prices={"chat": 1.0, "dear": 1e3}, answer_within_s=20.0)
SLOW = replace(ECHO_INFO, max_sequences=2)
PLAIN = replace(ECHO_INFO, features=("temperature",), max_sequences=32)


class OtherText(BytesText):
    """Reads other tokens into a text."""

    def encode(self, text: str, *, allow_special: bool = False, bare: bool = False) -> list[int]:
        return super().encode(text[::-1], allow_special=allow_special, bare=bare)


class House:
    """A service with a cheap model that is slow, and a dear one that is quick."""

    def __init__(self, *, routes: Sequence[RouteByCost] = (ROUTE,), other_text: bool = False) -> None:
        self.metrics = Metrics()
        self.cheap, self.dear = MemoryReplica(SLOW, token_s=0.02), MemoryReplica(PLAIN, token_s=0.001)
        self._other_text = other_text
        made = {"/s/chat": self.cheap, "/s/dear": self.dear}
        self.service = ServingService(
            Topology(
                models=tuple(
                    ServedModel(alias=name, release=f"{name}-1", kind="fake", sockets=(f"/s/{name}",), content=name)
                    for name in ("chat", "dear")
                ),
                dispatch=DispatchSection(routes=tuple(routes)),
            ),
            make_replica=made.__getitem__,
            load_text=self._text,
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=self.metrics,
        )

    def _text(self, served: ServedModel) -> BytesText:
        return OtherText() if self._other_text and served.alias == "dear" else BytesText()

    async def begin(self) -> None:
        await self.service.start()
        assert await self.service.connected(60)

    async def ask(self, text: str, *, deadline_s: float | None = None, **sampling: float) -> str:
        """Return the release that answered."""
        heard: list[object] = []
        request = GenerationRequest(
            request_id=RequestId(f"r-{text}"),
            model="chat",
            messages=(Message(role="user", content=text),),
            sampling=Sampling(**sampling),  # type: ignore[arg-type]
            deadline_s=deadline_s,
        )
        await self.service.answer(request, ALICE, heard.append)
        assert isinstance(heard[0], Started)
        return heard[0].release


def run(house: House, scenario: object) -> None:
    async def whole() -> None:
        await house.begin()
        try:
            await scenario()  # type: ignore[operator]
        finally:
            await house.service.close()

    asyncio.run(whole())


def test_each_request_is_answered_where_it_is_cheapest_in_time() -> None:
    house = House()

    async def scenario() -> None:
        counted = house.metrics.value
        for number in range(6):
            await house.ask(f"{'x' * 30} {number}")
        assert counted("ashore_route_answers", "chat", "chat") == 3 == counted("ashore_route_answers", "chat", "dear")
        assert [await house.ask(f"{'patient' * 4} {n}") for n in range(2)] == ["chat-1"] * 2
        assert await house.ask("urgent " * 5, deadline_s=0.5) == "dear-1"
        await house.service.measure()
        assert 20 < counted("ashore_route_tokens_per_second", "chat", "chat", "stream") < 55
        assert counted("ashore_route_cost", "chat", "dear") > counted("ashore_route_cost", "chat", "chat") > 0

        by = await asyncio.gather(*(house.ask(f"{'burst' * 6} {n}", deadline_s=6.0) for n in range(16)))
        assert set(by) == {"chat-1", "dear-1"} and by.count("dear-1") > 8
        assert counted("ashore_route_late", "chat", "dear") == 0

        assert await house.ask("x" * 30, deadline_s=0.5, top_p=0.5) == "chat-1", "the quick one has no top_p"
        house.cheap.die()
        assert await house.ask("y" * 30) == "dear-1", "of two, the one that is there"

    run(house, scenario)


def test_a_choice_that_fails_is_told_once_and_everybody_is_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()

    async def scenario() -> None:
        for number in range(6):
            await house.ask(f"{'x' * 30} {number}")

        def broken(*given: object, **named: object) -> None:
            raise RuntimeError("the solver is ill")

        with monkeypatch.context() as patch:
            patch.setattr("ashore.data.dispatch.policies.choose", broken)
            by = await asyncio.gather(*(house.ask(f"{'burst' * 6} {n}", deadline_s=20.0) for n in range(12)))
            assert "chat-1" in by and len(by) == 12
            assert [one.message for one in caplog.records if "choice by cost" in one.message] == [
                "the choice by cost for chat failed; each goes to the cheapest in time"
            ]
        caplog.clear()
        assert await asyncio.gather(*(house.ask(f"{'after' * 6} {n}") for n in range(4)))
        assert not caplog.records

    run(house, scenario)


def test_without_a_route_and_with_another_tokenizer_each_alias_has_its_own_model() -> None:
    for house in (House(routes=()), House(other_text=True)):

        async def scenario(house: House = house) -> None:
            assert {await house.ask(f"{'z' * 16} {n}", deadline_s=60) for n in range(5)} == {"chat-1"}

        run(house, scenario)


def test_a_route_names_its_own_alias_and_others_once() -> None:
    with pytest.raises(InvalidSpec, match="has no 'chat'"):
        RouteByCost(alias="chat", prices={"a": 1.0, "b": 2.0}).checked("ashore.toml")
    with pytest.raises(InvalidSpec, match="there is no choice"):
        RouteByCost(alias="chat", prices={"chat": 1.0}).checked("ashore.toml")
    with pytest.raises(InvalidSpec, match="two routes for 'chat'"):
        DispatchSection(routes=(ROUTE, ROUTE)).checked("ashore.toml")
