"""An answer whose replica is lost goes on at another: what client, ledger, guards and record see of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from memory_replica import MemoryReplica
from scratch import a_ledger, usages

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, ContentBlocked, HostDied, InvalidRequest, KillsHosts, Unauthenticated
from ashore.core.ids import RequestId
from ashore.data.audit import RequestNote
from ashore.data.audit.records import request_record
from ashore.data.authority import OpenDoor, Principal
from ashore.data.authority.budgets import BudgetRule, LedgerBudgets
from ashore.data.engines import CancelOrder, Finished, GenerateOrder, Grammar, OrderHearer, Sampling, Token
from ashore.data.guard import Guard, GuardList
from ashore.data.guard.room import METRICS
from ashore.data.http.openai.common import usage_out
from ashore.data.path import (
    BytesText,
    ChoiceEnded,
    CountingAuditor,
    Delta,
    GenerationRequest,
    GuardedMasker,
    Guards,
    PrivacyMasker,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
    Usage,
)
from ashore.data.privacy import Privacy, PrivacyPolicy
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import MemoryRecorder

ANYONE = OpenDoor().authenticate(None)
CAP = 10_000
CACHED = 5
TEXT = "the quick brown fox jumps, 敏捷的狐狸"


class Notes(CountingAuditor):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[RequestNote] = []

    def note(self, note: RequestNote) -> None:
        super().note(note)
        self.notes.append(note)


class House:
    """A model on several replicas, under a budget, masking and guard lists."""

    def __init__(self, *made: MemoryReplica, sockets: int = 2, lists: tuple[GuardList, ...] = ()) -> None:
        self._made, self.used = list(made), list[MemoryReplica]()
        self.sockets: list[str] = []
        """Where each of `used` is."""
        self.comes_back = True
        """Whether a replica is there again after the one before it was lost."""
        self.metrics, self.auditor, guard, clock = Metrics(METRICS), Notes(), Guard(), SystemClock()
        guard.take(lists)
        self.ledger = a_ledger(clock)
        rule = BudgetRule(kind="tokens", window="total", cap=CAP)
        self.budgets = LedgerBudgets(self.ledger, MemoryRecorder(), rules=(rule,))
        privacy = PrivacyMasker(Privacy(PrivacyPolicy(), secret=b"k" * 32), self.metrics)
        sockets_ = tuple(f"/s/echo-{number}.sock" for number in range(sockets))
        self.service = ServingService(
            Topology(models=(ServedModel(alias="echo", release="echo-1", kind="fake", sockets=sockets_),)),
            make_replica=self._make,
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=self.metrics,
            guards=Guards(
                budgets=self.budgets,
                masker=GuardedMasker(privacy, guard, self.metrics),
                auditor=self.auditor,
                lists=guard,
            ),
        )
        self.seen: list[ServingEvent] = []

    def _make(self, socket: str) -> MemoryReplica:
        one = self._made.pop(0) if self._made else MemoryReplica()
        if socket in self.sockets and not self.comes_back:
            one.connect = never  # type: ignore[method-assign]
        self.used.append(one)
        self.sockets.append(socket)
        return one

    @property
    def orders(self) -> list[GenerateOrder]:
        return [order for replica in self.used for order in replica.orders]

    async def ask(self, text: str = TEXT, **fields: Any) -> list[ServingEvent]:
        asked = GenerationRequest(
            request_id=RequestId("req_1"), model="echo", messages=(Message(role="user", content=text),), **fields
        )
        self.seen = []
        await self.service.answer(asked, ANYONE, self.seen.append)
        return self.seen

    @property
    def left(self) -> int:
        standing = self.budgets.standing(ANYONE, "echo")
        assert standing is not None and standing.tokens is not None
        return int(standing.tokens.left)


async def never(timeout_s: float) -> None:
    """Connect to nothing."""
    await asyncio.Event().wait()


def run(house: House, scenario: Callable[[House], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        await house.service.start()
        assert await house.service.connected(60)
        while not all(len(lead.first.replicas.live) == len(lead.first.replicas.seats) for lead in leads(house)):
            await asyncio.sleep(0.001)
        try:
            return await scenario(house)
        finally:
            await house.service.close()

    return asyncio.run(whole())


def leads(house: House) -> list[Any]:
    return [house.service._roster.lead("echo")]


def dying(after: int) -> House:
    """Return a house whose first two replicas die after so many tokens each."""
    return House(*[MemoryReplica(die_after=after, cached_tokens=CACHED) for _ in range(2)])


def pieces(events: list[ServingEvent]) -> list[ServingEvent]:
    """Return the pieces and ends, choice by choice."""
    return sorted((one for one in events if isinstance(one, Delta | ChoiceEnded)), key=lambda one: one.choice)


def text_of(events: list[ServingEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def usage_of(events: list[ServingEvent]) -> Usage:
    assert isinstance(events[-1], Usage)
    return events[-1]


@pytest.mark.parametrize(
    "fields",
    [
        {"top_logprobs": 2, "grammar": Grammar(kind="json_object")},
        {"stop": ("jumps, 敏",)},
        {"num_choices": 2, "sampling": Sampling(seed=7, min_tokens=9)},
        {"max_tokens": 17, "token_ids": True},
    ],
    ids=["log-probabilities", "stop string", "choices", "length"],
)
def test_wherever_a_replica_is_lost_the_answer_and_its_price_are_those_of_an_undisturbed_one(
    fields: dict[str, Any],
) -> None:
    lasting = House(*[MemoryReplica(cached_tokens=CACHED) for _ in range(2)])
    undisturbed = run(lasting, lambda house: house.ask(**fields))
    length, moved = len(TEXT.encode()), 0
    for after in range(1, length + 1, 5):

        async def scenario(house: House) -> None:
            nonlocal moved
            events = await house.ask(**fields)
            assert pieces(events) == pieces(undisturbed)
            usage = usage_of(events)
            cached = usage.cached_tokens if not usage.moved else CACHED  # nothing was sent: it began anew
            assert usage == msgspec.structs.replace(usage_of(undisturbed), moved=usage.moved, cached_tokens=cached)
            assert sum(isinstance(event, Started) for event in events) == 1
            assert house.left == CAP - usage.prompt_tokens - usage.completion_tokens
            (counted,) = usages(house.ledger)
            assert (counted.requests, counted.prompt_tokens, counted.completion_tokens) == (
                1, usage.prompt_tokens, usage.completion_tokens,
            )  # fmt: skip
            begun = [order for order in house.orders if order.begun]
            for order in begun:
                assert bytes(order.prompt_ids) == TEXT.encode() + TEXT.encode()[: order.begun]
                assert (order.grammar, order.top_logprobs) == (fields.get("grammar"), fields.get("top_logprobs"))
                assert order.sampling.min_tokens == max(0, fields.get("sampling", Sampling()).min_tokens - order.begun)
            assert len({order.order_id for order in house.orders}) == len(house.orders)
            note = house.auditor.notes[-1]
            assert note.moved == usage.moved and bool(begun) == bool(usage.moved)
            assert house.metrics.value("ashore_moved_answers", "echo") == bool(usage.moved)
            moved += bool(usage.moved)

        run(dying(after), scenario)
    assert moved >= 4


def test_the_record_names_the_replicas() -> None:
    async def scenario(house: House) -> None:
        usage = usage_of(await house.ask())
        assert re.fullmatch(r"echo-[01]>echo-[01](, echo-[01]>echo-[01])*", usage.moved)
        record = request_record(house.auditor.notes[-1], seq=1, at_us=1, mono_us=1)
        assert record.detail == {"moved": usage.moved}

    run(dying(12), scenario)


def test_masked_values_and_blocked_words_do_not_notice_the_seam() -> None:
    question = "mail alice@example.com or bob@example.com about it"
    blocked = GuardList(name="house", category="violence", words=("bombast",), do="block", where="answers")

    async def refused(house: House) -> str:
        with pytest.raises(ContentBlocked):
            await house.ask("some words, a bombast and more")
        return text_of(house.seen)

    sent = run(House(lists=(blocked,)), refused)
    assert "bomb" not in sent
    for after in range(1, 60, 7):
        assert text_of(run(dying(after), lambda house: house.ask(question))) == question
        if after < 30:
            house = House(MemoryReplica(die_after=after), MemoryReplica(die_after=after), lists=(blocked,))
            assert run(house, refused) == sent


def test_an_answer_moves_when_its_host_shuts_down_in_order_too() -> None:
    async def scenario(house: House) -> None:
        answer = asyncio.create_task(house.ask())
        while len(text_of(house.seen)) < 4:
            await asyncio.sleep(0.001)
        next(one for one in house.used if one.running).leave()
        assert text_of(await answer) == TEXT and usage_of(house.seen).moved

    run(House(MemoryReplica(token_s=0.002), MemoryReplica(token_s=0.002)), scenario)


def cut(house: House, error: type[AshoreError], said: str) -> None:
    async def scenario(house: House) -> None:
        with pytest.raises(error):
            await house.ask()
        assert text_of(house.seen) == said
        assert not any(isinstance(event, ChoiceEnded | Usage) for event in house.seen), "it does not look whole"
        assert house.service.in_flight == 0
        assert house.left == CAP - len(TEXT.encode()) - len(said), "what was made is paid"

    run(house, scenario)


def test_an_answer_that_nobody_can_go_on_with_is_cut_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.path.moving.MOST_WAIT_S", 0.05)
    away = [MemoryReplica() for _ in range(3)]
    for one in away:
        one.connect = never  # type: ignore[method-assign]
    cut(House(MemoryReplica(die_after=3), away[0], sockets=1), HostDied, TEXT[:3])
    cut(House(MemoryReplica(die_after=3), MemoryReplica(die_after=3), *away[1:]), HostDied, TEXT[:6])


def test_an_answer_moves_a_few_times_and_one_that_may_kill_hosts_once() -> None:
    cut(House(*[MemoryReplica(die_after=1) for _ in range(9)]), HostDied, TEXT[:4])
    killers = [MemoryReplica(die_after=3), *[MemoryReplica(die_after=0) for _ in range(9)]]

    async def scenario(house: House) -> None:
        with pytest.raises(KillsHosts):
            await house.ask()
        assert len(house.orders) <= 3, "two hosts died of it without a token between"

    run(House(*killers), scenario)


class Ghost(MemoryReplica):
    """Is taken for dead after three tokens, and goes on to talk."""

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        self.orders.append(order)
        loop = asyncio.get_running_loop()

        def say(text: bytes) -> None:
            hearer.hear([Token(order.order_id, one) for one in text])

        loop.call_soon(say, order.prompt_ids[order.begun : order.begun + 3])
        loop.call_soon(hearer.lose, HostDied("it was cut off"))
        loop.call_soon(self.die)
        for after_s in (0.0, 0.01, 0.02):
            loop.call_later(after_s, say, b"ghost")
        end = Finished(order.order_id, "stop", 1, 0, 8)
        loop.call_later(0.02, hearer.hear, [end])
        return lambda: None


def test_a_replica_that_was_taken_for_dead_is_not_heard_again() -> None:
    house = House(Ghost(), Ghost(), MemoryReplica(token_s=0.002), MemoryReplica(token_s=0.002))
    assert text_of(run(house, lambda house: house.ask())) == TEXT


def test_a_client_does_not_read_the_address_of_a_node() -> None:
    moved = "https://10.0.0.7:8443>http://[fd00::2]:8000, chat-0>chat-1"
    usage = Usage(prompt_tokens=1, cached_tokens=0, completion_tokens=1, moved=moved)
    assert usage.moved_in_public == usage_out(usage).moved == "node>node, chat-0>chat-1"


class Endless(MemoryReplica):
    """Is lost after the last token of an answer, before its end. Refuses what an engine refuses."""

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        self.orders.append(order)
        loop = asyncio.get_running_loop()
        if order.max_new_tokens < 1:
            loop.call_soon(hearer.lose, InvalidRequest("max_new_tokens is 0; expected at least 1"))
            return lambda: None
        said = order.prompt_ids[order.begun : order.begun + order.max_new_tokens]
        loop.call_soon(hearer.hear, [Token(order.order_id, one) for one in said])
        loop.call_soon(hearer.lose, HostDied("it was cut off"))
        return lambda: None


def test_an_answer_that_lost_its_end_alone_is_whole() -> None:
    async def scenario(house: House) -> None:
        events = await house.ask(max_tokens=17, num_choices=2)
        assert [one.reason for one in events if isinstance(one, ChoiceEnded)] == ["length", "length"]
        assert usage_of(events).completion_tokens == 34
        assert house.left == CAP - len(TEXT.encode()) - 34
        assert all(order.max_new_tokens for order in house.orders)

    run(House(Endless(), Endless()), scenario)


def test_an_answer_never_goes_on_at_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.path.moving.MOST_WAIT_S", 0.05)

    async def scenario(house: House) -> None:
        answer = asyncio.create_task(house.ask())
        while len(text_of(house.seen)) < 4:
            await asyncio.sleep(0.001)
        sockets = tuple(f"/s/new-{number}.sock" for number in range(2))
        new = ServedModel(alias="echo", release="echo-2", kind="fake", sockets=sockets)
        await house.service.apply(Topology(models=(new,)))
        for socket, one in list(zip(house.sockets, house.used, strict=True)):
            if not socket.startswith("/s/new"):
                one.connect = never  # type: ignore[method-assign]
                one.die()
        with pytest.raises(HostDied):
            await answer
        assert not any(isinstance(one, ChoiceEnded | Usage) for one in house.seen), "it does not look whole"
        orders = {socket: one.orders for socket, one in zip(house.sockets, house.used, strict=True)}
        assert not any(found for socket, found in orders.items() if socket in sockets)
        begun = (await house.ask())[0]
        assert isinstance(begun, Started) and begun.release == "echo-2"

    house = House(*[MemoryReplica(token_s=0.01) for _ in range(2)])
    house.comes_back = False
    run(house, scenario)


@pytest.mark.parametrize("how", ["leaves", "is revoked", "is late"])
def test_an_answer_that_moves_ends_with_its_client(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no replica is there to go on at."""
    monkeypatch.setattr("ashore.data.path.moving.MOST_WAIT_S", 60.0)

    async def scenario(house: House) -> None:
        fields = {"deadline_s": 2.0} if how == "is late" else {}
        answer = asyncio.create_task(house.ask(**fields))
        while len(text_of(house.seen)) < 4:
            await asyncio.sleep(0.001)
        for one in list(house.used):
            one.die()
        while leads(house)[0].first.replicas.live:
            await asyncio.sleep(0.001)
        assert not answer.done()
        said = len(text_of(house.seen))
        reception = house.service.reception
        if how == "leaves":
            answer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await answer
        elif how == "is revoked":

            def gone(principal: Principal) -> Principal:
                raise Unauthenticated("the key was revoked")

            reception.current = gone
            reception.end_revoked()
            with pytest.raises(Unauthenticated):
                await answer
        else:
            await answer
            (ended,) = (one for one in house.seen if isinstance(one, ChoiceEnded))
            assert (ended.reason, ended.cut_by) == ("length", "deadline")
        assert house.service.in_flight == 0 and house.left == CAP - len(TEXT.encode()) - said
        assert len(text_of(house.seen)) == said and len(house.orders) == 1

    house = House(*[MemoryReplica(token_s=0.01) for _ in range(2)])
    house.comes_back = False
    run(house, scenario)
