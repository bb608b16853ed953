"""Reasoning that is ended by force, over a replica that thinks as long as it may."""

from __future__ import annotations

import asyncio
from pathlib import Path

from memory_replica import MemoryReplica
from tiny_text import R1, byte_level

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError
from ashore.core.ids import OrderId, RequestId
from ashore.data.authority import OpenDoor
from ashore.data.engines import CancelOrder, EngineEvent, Finished, GenerateOrder, OrderHearer, Token, rest_of
from ashore.data.path import BytesText, GenerationRequest, ServedModel, ServingService, Topology, Usage
from ashore.data.path.thinking import CLOSER, ThinksAtMost
from ashore.data.text import TextModel
from ashore.kit.metrics import Metrics


class Scripted:
    """Writes one text behind the prompt: all of it that is not there yet, as far as the order goes."""

    def __init__(self, model: TextModel, *texts: str, at_once: bool = False) -> None:
        self.at_once = at_once
        self._texts = [model.encode(text, allow_special=True) for text in texts]
        self.orders: list[GenerateOrder] = []

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        self.orders.append(order)
        ids = self._texts[len(self.orders) - 1][: order.max_new_tokens]
        reason = "length" if len(ids) == order.max_new_tokens else "stop"
        end = Finished(order.order_id, reason, len(order.prompt_ids), 3, len(ids))  # type: ignore[arg-type]
        events: list[EngineEvent] = [*(Token(order.order_id, one) for one in ids), end]
        frames = [events] if self.at_once else [[one] for one in events]
        for frame in frames:
            asyncio.get_running_loop().call_soon(hearer.hear, frame)
        return lambda: None


class Heard:
    """Hears one sequence to its end."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.over = asyncio.get_running_loop().create_future()

    def hear(self, events: list[EngineEvent]) -> None:
        self.events += events
        if isinstance(events[-1], Finished):
            self.over.set_result(None)

    def lose(self, error: AshoreError) -> None:
        self.over.set_exception(error)


def told(model: TextModel, replica: Scripted, *, opens: bool, tokens: int, most: int = 400) -> tuple[str, Finished]:
    async def whole() -> tuple[str, Finished]:
        order = GenerateOrder(order_id=OrderId("a"), prompt_ids=[1, 2], max_new_tokens=most)
        heard = Heard()
        ThinksAtMost(replica, model, tokens=tokens, opens_reasoning=opens).start(order, heard)  # type: ignore[arg-type]
        async with asyncio.timeout(5):
            await heard.over
        last = heard.events[-1]
        ids = [one.token_id for one in heard.events if isinstance(one, Token)]
        assert {one.order_id for one in heard.events} == {"a"}
        assert isinstance(last, Finished) and (last.completion_tokens, last.prompt_tokens) == (len(ids), 2)
        return b"".join(map(model.token_bytes, ids)).decode(), last

    return asyncio.run(whole())


def test_reasoning_ends_after_its_budget_and_the_answer_follows(tmp_path: Path) -> None:
    model = byte_level(tmp_path, R1)
    for at_once in (False, True):
        replica = Scripted(model, "abcdefgh" * 9, "Paris.", at_once=at_once)
        text, finished = told(model, replica, opens=True, tokens=5)
        thought, _, answer = text.partition("\n</think>\n\n")
        assert answer == "Paris."
        assert len(model.encode(thought)) <= 5 and thought.startswith("ab")
        assert finished.reason == "stop" and finished.cached_tokens == 3
        first, second = replica.orders
        assert first.max_new_tokens == 5
        assert second.prompt_ids[:2] == [1, 2] and second.order_id != first.order_id
        assert second.max_new_tokens == 400 - (len(second.prompt_ids) - 2)


def test_a_model_that_opens_its_own_thoughts_is_bound_too(tmp_path: Path) -> None:
    model = byte_level(tmp_path)
    text, _ = told(model, Scripted(model, "<think>" + "abc" * 20, "Yes."), opens=False, tokens=6)
    assert text.startswith("<think>ab") and text.endswith("\n</think>\n\nYes.")


def test_who_has_ended_thinking_or_never_began_just_goes_on(tmp_path: Path) -> None:
    model = byte_level(tmp_path, R1)
    ended, _ = told(model, Scripted(model, "a</think>b" + "c" * 90, "d"), opens=True, tokens=6)
    assert ended.count("</think>") == 1 and ended.endswith("d")
    plain, _ = told(model, Scripted(model, "abc" * 30, "d"), opens=False, tokens=6)
    assert "think" not in plain and plain.endswith("d")
    replica = Scripted(model, "ab")
    assert told(model, replica, opens=True, tokens=6)[0] == "ab"
    assert len(replica.orders) == 1, "it had ended by itself"


def test_reasoning_that_began_on_a_lost_replica_keeps_its_budget(tmp_path: Path) -> None:
    model = byte_level(tmp_path, R1)
    closer = model.encode(CLOSER, allow_special=True, bare=True)

    def rest(begun: list[int], *texts: str) -> tuple[str, list[GenerateOrder]]:
        replica = Scripted(model, *texts)

        async def whole() -> str:
            asked = GenerateOrder(order_id=OrderId("a"), prompt_ids=[1, 2], max_new_tokens=400)
            heard = Heard()
            limited = ThinksAtMost(replica, model, tokens=5, opens_reasoning=True)  # type: ignore[arg-type]
            limited.start(rest_of(asked, begun, OrderId("a")), heard)
            async with asyncio.timeout(60):
                await heard.over
            return b"".join(model.token_bytes(one.token_id) for one in heard.events if isinstance(one, Token)).decode()

        return asyncio.run(whole()), replica.orders

    thought = model.encode("abcdefgh" * 9)
    text, (first, second) = rest(thought[:3], "xyzuvw" * 9, "Paris.")
    assert first.max_new_tokens == 2 and second.begun == 5 + len(closer)
    assert text.endswith(CLOSER + "Paris.")
    text, (only,) = rest(thought[:5], "Paris.")
    assert text == CLOSER + "Paris." and only.begun == 5 + len(closer)
    text, (only,) = rest([*thought[:5], *closer], "Paris.")
    assert text == "Paris." and only.max_new_tokens == 400 - 5 - len(closer)


def test_no_answer_is_longer_than_it_may_be(tmp_path: Path) -> None:
    model = byte_level(tmp_path, R1)
    replica = Scripted(model, "abc" * 30, "d" * 50)
    text, finished = told(model, replica, opens=True, tokens=6, most=7)
    assert finished == Finished("a", "length", 2, 3, 7)  # type: ignore[arg-type]
    assert len(replica.orders) == 1
    assert "d" not in text


class Thinks(BytesText):
    """Bytes whose every prompt ends inside of reasoning."""

    thinks = True  # type: ignore[assignment]

    def opens_reasoning(self, prompt_ids: object) -> bool:
        return True


def test_a_request_with_a_budget_is_answered_in_two_parts() -> None:
    async def whole() -> tuple[list[GenerateOrder], Usage]:
        replica = MemoryReplica()
        service = ServingService(
            Topology(models=(ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s",)),)),
            make_replica=lambda socket: replica,
            load_text=lambda served: Thinks(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
        )
        await service.start()
        assert await service.connected(5)
        try:
            asked = GenerationRequest(
                request_id=RequestId("r"), model="echo", messages=(Message(role="user", content="abcdefgh"),),
                max_tokens=30, thinking_tokens=3,
            )  # fmt: skip
            events = [event async for event in service.generate(asked, OpenDoor().authenticate(None))]
            assert isinstance(events[-1], Usage)
            return replica.orders, events[-1]
        finally:
            await service.close()

    (first, second), usage = asyncio.run(whole())
    assert first.max_new_tokens == 3
    assert bytes(second.prompt_ids) == b"abcdefgh" + b"abc" + CLOSER.encode()
    assert second.max_new_tokens == 30 - 3 - len(CLOSER)
    assert second.begun == 3 + len(CLOSER), "more than the echo has"
    assert (usage.prompt_tokens, usage.completion_tokens) == (8, 3 + len(CLOSER))
