"""Pieces that go past the generators: who hears them, what keeps them from it, and that none goes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ashore.access import OpenDoor, Principal
from ashore.audit import RequestNote
from ashore.cache import AnswerCache, CachePolicy, FixedEpochs
from ashore.core import Message, RequestId, SystemClock
from ashore.engines import Sampling
from ashore.metrics import Metrics
from ashore.serving import (
    BytesText,
    ChoiceEnded,
    CountingAuditor,
    Delta,
    Flow,
    GenerationRequest,
    Guards,
    MemoryReplica,
    SeesNothing,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
    Unlimited,
    Usage,
)
from ashore.serving.guards import Decode, Masked, NoReservation, Reservation, Unmasked

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
    """Offers a flow, opens it with the first piece, and keeps apart what came which way."""

    def __init__(self, keeps_up: Callable[[str], bool] = lambda text: True) -> None:
        self._keeps_up = keeps_up
        self.flowed = ""
        self.yielded: list[ServingEvent] = []
        self.text = ""
        self.flow = Flow(self._tell)

    def _tell(self, delta: Delta) -> bool:
        self.flowed += delta.text
        self.text += delta.text
        return self._keeps_up(delta.text)

    async def ask(self, service: ServingService, request: GenerationRequest) -> None:
        async for event in service.generate(request, ANYONE, self.flow):
            self.yielded.append(event)
            if isinstance(event, Delta):
                self.text += event.text
                if len(self.yielded) == 2:
                    self.flow.open()


class Failing(Client):
    """One whose flow raises."""

    async def ask(self, service: ServingService, request: GenerationRequest) -> None:
        with pytest.raises(RuntimeError, match="a bug"):
            await super().ask(service, request)


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


def test_pieces_flow_once_it_is_open_and_whoever_must_hear_them_does() -> None:
    record, budgets = Record(), Counted()
    client = answered(Client(), ask(), Guards(auditor=record, budgets=budgets))
    assert (client.text, client.flowed) == ("hello", "ello")
    assert [type(event) for event in client.yielded] == [Started, Delta, ChoiceEnded, Usage]
    assert client.yielded[-1] == Usage(prompt_tokens=5, cached_tokens=0, completion_tokens=5)
    assert record.notes[0].answer == "hello" and record.notes[0].completion_tokens == 5
    assert budgets.made[:6] == [0, 1, 2, 3, 4, 5]


def test_what_comes_while_the_client_does_not_keep_up_is_yielded() -> None:
    client = answered(Client(keeps_up=lambda text: text != "l"), ask())
    assert (client.text, client.flowed) == ("hello", "el")


@pytest.mark.parametrize("fields", [{"stop": ("zz",)}, {"num_choices": 2}])
def test_what_may_end_an_answer_or_stands_beside_another_is_yielded(fields: dict[str, Any]) -> None:
    client = answered(Client(), ask("hello", **fields))
    assert client.flowed == "" and len(client.text) == 5 * fields.get("num_choices", 1)


def test_what_is_changed_on_its_way_is_yielded() -> None:
    client = answered(Client(), ask(), replace(Guards(), masker=Shouting()))
    assert (client.text, client.flowed) == ("HELLO", "")


def test_pieces_of_a_shared_generation_flow_to_each_who_reads_it_and_a_bug_of_one_is_his_alone() -> None:
    def fails(text: str) -> bool:
        raise RuntimeError("a bug")

    record, budgets = Record(), Counted()
    request = ask(sampling=Sampling(temperature=0))
    first, quick, slow = Client(), Client(), Client(keeps_up=lambda text: False)
    answered(first, request, Guards(auditor=record, budgets=budgets), quick, slow, cached=True)
    assert [client.text for client in (first, quick, slow)] == ["hello"] * 3
    assert [client.flowed for client in (first, quick, slow)] == ["ello", "ello", "e"]
    started = [client.yielded[0] for client in (first, quick, slow)]
    assert [one.cache for one in started if isinstance(one, Started)] == ["miss", "hit-exact", "hit-exact"]
    assert [note.answer for note in record.notes] == ["hello"] * 3
    whole = Client()
    answered(Failing(keeps_up=fails), request, None, whole, cached=True)
    assert whole.text == "hello"


def test_a_flow_that_nobody_opens_stays_empty() -> None:
    client = Client()
    client.flow.bar()
    client.flow.open()
    assert not client.flow.is_open
    heard: list[str] = []
    client.flow.listen(lambda delta: heard.append("before"))
    client.flow.listen(lambda delta: heard.append(delta.text))  # another release makes the answer now
    client.flow.open()
    client.flow.tell(Delta(choice=0, text="a"))
    assert (heard, client.flowed, client.flow.is_open) == (["a"], "a", True)
