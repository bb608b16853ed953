"""The way of a piece of an answer: who hears it, what changes it or makes it wait, and whose fault ends what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, nullcontext
from typing import Any

import pytest
from memory_replica import MemoryReplica

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import AuditUnavailable, NotReady
from ashore.core.ids import RequestId
from ashore.data.audit import RequestNote
from ashore.data.authority import OpenDoor, Principal
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs
from ashore.data.engines import Sampling
from ashore.data.path import (
    BytesText,
    ChoiceEnded,
    CountingAuditor,
    Delta,
    GenerationRequest,
    Guards,
    SeesNothing,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
    Unlimited,
    Usage,
)
from ashore.data.path.guards import Decode, Masked, NoReservation, Reservation, Unmasked
from ashore.kit.metrics import Metrics

ANYONE = OpenDoor().authenticate(None)


class Record(CountingAuditor):
    """An auditor whose digests are what they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[RequestNote] = []

    def digest(self, text: bytes) -> str:
        return text.decode()

    def note(self, note: RequestNote) -> None:
        self.notes.append(note)


class Counted(Unlimited):
    """Budgets that keep what they are told of an answer while it grows."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []

    async def reserve(
        self,
        principal: Principal,
        alias: str,
        tokens: int,
        *,
        fewest: int | None = None,
        request_id: str = "",
        joins: bool = False,
    ) -> Reservation:
        made = self.made

        class Hold(NoReservation):
            def made(self, prompt_tokens: int, completion_tokens: int) -> None:
                made.append(completion_tokens)

        return Hold()


class Shouting(SeesNothing):
    """A masker that changes every piece on its way."""

    def mask(self, request: GenerationRequest, principal: Principal, decode: Decode) -> Masked:
        return Unmasked(request=request, outward=self)

    def take(self, event: ServingEvent) -> Sequence[ServingEvent]:
        return (Delta(choice=event.choice, text=event.text.upper()),) if isinstance(event, Delta) else (event,)


class Client:
    """Hears an answer."""

    def __init__(self, fails_at: str = "") -> None:
        self._fails_at = fails_at
        self.events: list[ServingEvent] = []

    def hear(self, event: ServingEvent) -> None:
        if isinstance(event, Delta) and event.text == self._fails_at:
            raise RuntimeError("a bug")
        self.events.append(event)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    async def ask(self, service: ServingService, request: GenerationRequest) -> None:
        with pytest.raises(RuntimeError, match="a bug") if self._fails_at else nullcontext():
            await service.answer(request, ANYONE, self.hear)


def ask(text: str = "hello", **fields: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId("req_1"), model="echo", messages=(Message(role="user", content=text),), **fields
    )


def answered(
    client: Client, request: GenerationRequest, guards: Guards | None = None, *beside: Client, cached: bool = False
) -> Client:
    """Have a client, and others at the same time, ask an echo."""
    policy = CachePolicy(mode="exact" if cached else "off")

    async def scenario() -> None:
        service = ServingService(
            Topology(models=(ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s",)),)),
            make_replica=lambda socket: MemoryReplica(),
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
            guards=guards,
            cache=AnswerCache(policy, secret=b"s" * 32, epochs=FixedEpochs(), clock=SystemClock()),
        )
        await service.start()
        while not all(card.ready for card in service.models()):
            await asyncio.sleep(0.005)
        try:
            await asyncio.gather(*(one.ask(service, request) for one in (client, *beside)))
        finally:
            await service.close()

    asyncio.run(scenario())
    return client


def test_everybody_who_must_hears_every_piece_before_the_next_one_comes() -> None:
    record, budgets = Record(), Counted()
    client = answered(Client(), ask(), Guards(auditor=record, budgets=budgets))
    assert [type(event) for event in client.events] == [Started, *[Delta] * 5, ChoiceEnded, Usage]
    assert client.text == "hello"
    assert client.events[-1] == Usage(prompt_tokens=5, cached_tokens=0, completion_tokens=5)
    assert record.notes[0].answer == "hello" and record.notes[0].completion_tokens == 5
    assert budgets.made[:6] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("fields", [{"stop": ("zz",)}, {"num_choices": 2}])
def test_what_may_end_an_answer_or_stands_beside_another_goes_the_same_way(fields: dict[str, Any]) -> None:
    client = answered(Client(), ask("hello", **fields))
    assert len(client.text) == 5 * fields.get("num_choices", 1)
    assert sum(isinstance(event, ChoiceEnded) for event in client.events) == fields.get("num_choices", 1)


def test_what_is_changed_on_its_way_is_heard_and_recorded_as_it_goes_out() -> None:
    record = Record()
    client = answered(Client(), ask(), Guards(auditor=record, masker=Shouting()))
    assert (client.text, record.notes[0].answer) == ("HELLO", "HELLO")


def test_a_shared_generation_is_told_to_each_who_listens_and_a_bug_of_one_is_his_alone() -> None:
    record, budgets = Record(), Counted()
    request = ask(sampling=Sampling(temperature=0))
    first, second, third = Client(), Client(), Client()
    answered(first, request, Guards(auditor=record, budgets=budgets), second, third, cached=True)
    assert [client.text for client in (first, second, third)] == ["hello"] * 3
    started = [client.events[0] for client in (first, second, third)]
    assert [one.cache for one in started if isinstance(one, Started)] == ["miss", "hit-exact", "hit-exact"]
    assert [note.answer for note in record.notes] == ["hello"] * 3
    whole = Client()
    answered(Client(fails_at="e"), request, None, whole, cached=True)
    assert whole.text == "hello"


def test_a_bug_of_who_hears_an_answer_ends_it_and_its_order() -> None:
    failing = Client(fails_at="e")
    answered(failing, ask())
    assert failing.text == "h"


class Slow(Record):
    """A record that must be on disk before anything goes out, and takes its time; or fails."""

    strict = True

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.heard_before: list[int] = []
        self.client: Client | None = None
        self._fails = fails

    async def durable(self) -> None:
        await asyncio.sleep(0.02)
        assert self.client is not None
        self.heard_before.append(len(self.client.events))
        if self._fails:
            raise AuditUnavailable("the disk is full", hint="make room")


def test_nothing_goes_out_before_it_is_on_disk_that_it_begins_and_the_end_not_before_the_end() -> None:
    record = Slow()
    client = record.client = Client()
    answered(client, ask(), Guards(auditor=record))
    assert client.text == "hello" and isinstance(client.events[-1], Usage)
    assert record.heard_before == [0, 7], "at the beginning nothing, at the end all but the last"
    assert [(note.outcome, note.answer) for note in record.notes] == [("begun", ""), ("answered", "hello")]


def test_what_cannot_be_recorded_does_not_go_out() -> None:
    class Refused(Client):
        async def ask(self, service: ServingService, request: GenerationRequest) -> None:
            with pytest.raises(AuditUnavailable):
                await super().ask(service, request)

    record = Slow(fails=True)
    client = record.client = Refused()
    answered(client, ask("a longer question"), Guards(auditor=record))
    assert client.events == []


def test_what_is_awaited_before_the_end_may_fail_the_answer() -> None:
    class Keeps(Client):
        async def ask(self, service: ServingService, request: GenerationRequest) -> None:
            async def keep(usage: Usage) -> None:
                assert usage.completion_tokens == 5
                raise NotReady("nothing can be kept", hint="none")

            with pytest.raises(NotReady):
                await service.answer(request, ANYONE, self.hear, before_end=keep)

    record = Record()
    client = answered(Keeps(), ask(), Guards(auditor=record))
    assert client.text == "hello" and not isinstance(client.events[-1], Usage)
    assert [(note.outcome, note.error_code) for note in record.notes] == [("failed", NotReady.code)]


def test_who_reads_at_a_pace_of_his_own_gets_all_of_it_and_ends_it_by_going() -> None:
    class Reader(Client):
        async def ask(self, service: ServingService, request: GenerationRequest) -> None:
            async for event in service.generate(request, ANYONE):
                await asyncio.sleep(0.005)  # it is made faster than that
                self.events.append(event)
            async with aclosing(service.generate(request, ANYONE)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        break
            assert service.in_flight == 0

    record = Record()
    client = answered(Reader(), ask(), Guards(auditor=record))
    assert client.text == "hello" and isinstance(client.events[-1], Usage)
