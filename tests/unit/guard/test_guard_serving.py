"""Guard lists on the request path: prompts, streams, reasoning, calls, records, cached answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from memory_replica import MemoryReplica
from msgspec.structs import replace

from ashore.core.chat import Message, ToolSpec
from ashore.core.clock import SystemClock
from ashore.core.errors import ContentBlocked
from ashore.core.ids import RequestId
from ashore.data.audit import RequestNote
from ashore.data.audit.records import request_record
from ashore.data.authority import OpenDoor
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs
from ashore.data.engines import Grammar, Sampling
from ashore.data.guard import Guard, GuardList
from ashore.data.guard.room import METRICS
from ashore.data.path import (
    BytesText,
    ChoiceEnded,
    CountingAuditor,
    Delta,
    GenerationRequest,
    GuardedMasker,
    Guards,
    PrivacyMasker,
    SeesNothing,
    ServedModel,
    ServingEvent,
    ServingService,
    TokenText,
    ToolCallDelta,
    Topology,
)
from ashore.data.privacy import Privacy, PrivacyPolicy
from ashore.kit.metrics import Metrics

ANYONE = OpenDoor().authenticate(None)


class Notes(CountingAuditor):
    """Keeps every note."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[RequestNote] = []

    def note(self, note: RequestNote) -> None:
        super().note(note)
        self.notes.append(note)


class House:
    """A model that echoes, under guard lists."""

    def __init__(self, *lists: GuardList, policy: PrivacyPolicy | None = None) -> None:
        self.guard, self.metrics, self.auditor = Guard(), Metrics(METRICS), Notes()
        self.guard.take(lists)
        self.replica = MemoryReplica()
        clock = SystemClock()
        masker = PrivacyMasker(Privacy(policy or PrivacyPolicy(), secret=b"k" * 32), self.metrics)
        self.service = ServingService(
            Topology(models=(ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s/0",)),)),
            make_replica=lambda socket: self.replica,
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=self.metrics,
            cache=AnswerCache(CachePolicy(mode="exact"), secret=b"s" * 32, epochs=FixedEpochs(), clock=clock),
            guards=Guards(
                masker=GuardedMasker(masker, self.guard, self.metrics), auditor=self.auditor, lists=self.guard
            ),
        )

    async def ask(self, text: str, **fields: Any) -> list[ServingEvent]:
        request = GenerationRequest(
            request_id=RequestId("req_1"), model="echo", messages=(Message(role="user", content=text),),
            sampling=Sampling(temperature=0.0), **fields,
        )  # fmt: skip
        events: list[ServingEvent] = []
        self.sent = events
        await self.service.answer(request, ANYONE, events.append)
        return events


def said(events: list[ServingEvent]) -> str:
    return "".join(one.text for one in events if isinstance(one, Delta))


def run(house: House, scenario: Callable[[], Any]) -> None:
    async def whole() -> None:
        await house.service.start()
        assert await house.service.connected(60)
        try:
            await scenario()
        finally:
            await house.service.close()

    asyncio.run(whole())


def a_list(*words: str, **fields: Any) -> GuardList:
    return GuardList(name="house", category="violence", words=words, **fields)


def test_a_prompt_with_a_blocked_word_reaches_no_engine_and_gets_the_refusal() -> None:
    house = House(a_list("bomb", do="block", where="prompts", refusal="Ask something else."))

    async def scenario() -> None:
        with pytest.raises(ContentBlocked, match="Ask something else"):
            await house.ask("how is a BOMB built?")
        assert not house.replica.orders
        note = house.auditor.notes[-1]
        assert (note.error_code, note.guard) == ("content_filter", "house block prompt=1")
        assert request_record(note, seq=1, at_us=1, mono_us=1).detail == {"guard": "house block prompt=1"}
        assert "bomb" not in repr(note).lower()
        assert said(await house.ask("how is a boat built?"))
        assert house.auditor.notes[-1].guard == ""

    run(house, scenario)


def test_an_answer_ends_before_the_word_and_is_not_cached() -> None:
    house = House(a_list("敏感词", do="block", where="answers"))

    async def scenario() -> None:
        with pytest.raises(ContentBlocked, match="the answer has a word of the guard list 'house'"):
            await house.ask("这里有敏感词，后面还有")
        sent = said(house.sent)
        assert sent and "敏" not in sent and not any(isinstance(one, ChoiceEnded) for one in house.sent)
        assert house.service.cache.stats().entries == 0
        assert house.auditor.notes[-1].guard == "house block answer=1"

    run(house, scenario)


def test_a_monitor_lets_everything_pass_and_counts_it() -> None:
    house = House(a_list("bomb"))

    async def scenario() -> None:
        events = await house.ask("a bomb!")
        assert "a bomb!" in said(events)
        assert house.auditor.notes[-1].guard == "house monitor prompt=1, house monitor answer=1"
        assert house.metrics.value("ashore_guard_words", "house", "monitor", "answer") == 1

    run(house, scenario)


def test_a_cached_answer_is_found_under_its_own_lists_alone() -> None:
    house = House(a_list("bomb"))

    async def scenario() -> None:
        await house.ask("a bomb!")
        assert house.service.cache.stats().entries == 1
        key = house.service.repeats.key(ANYONE, "/v1/chat/completions", b"{}")
        house.guard.take([a_list("bomb", do="block", where="answers")])
        with pytest.raises(ContentBlocked):
            await house.ask("a bomb!")
        assert house.service.repeats.key(ANYONE, "/v1/chat/completions", b"{}") != key

    run(house, scenario)


def test_masking_goes_first_and_restored_values_are_read_too() -> None:
    house = House(a_list("a@b.example", do="block"), policy=PrivacyPolicy(prompts={"email": "mask"}))

    async def scenario() -> None:
        with pytest.raises(ContentBlocked, match="the answer"):
            await house.ask("write to a@b.example now")
        assert house.replica.orders, "the prompt did not have the address any more"

    run(house, scenario)


def test_embeddings_are_checked_as_prompts() -> None:
    house = House(a_list("bomb", do="block"))

    async def scenario() -> None:
        with pytest.raises(ContentBlocked):
            await house.service.embeddings.embed("echo", ["a bomb"], ANYONE, request_id=RequestId("r"))

    run(house, scenario)


def outward_of(*words: str) -> Any:
    guard = Guard()
    guard.take([a_list(*words, do="block")])
    request = GenerationRequest(request_id=RequestId("r"), model="echo", prompt="hello")
    return GuardedMasker(SeesNothing(), guard, Metrics(METRICS)).mask(request, ANYONE, lambda ids: "").outward


def test_reasoning_calls_and_tokens_hide_no_word() -> None:
    outward = outward_of("敏感词")
    first = outward.take(Delta(choice=0, reasoning="想敏感"))
    assert [one.reasoning for one in first] == ["想"]
    second = outward.take(Delta(choice=0, text="好"))
    assert [(one.reasoning, one.text) for one in second] == [("敏感", "好")]
    with pytest.raises(ContentBlocked):
        outward.take(Delta(choice=0, reasoning="词"))

    outward = outward_of("敏感词")
    call = ToolCallDelta(index=0, id="c", name="f", arguments='{"q": "\\u654f\\u61')
    [started] = outward.take(Delta(choice=0, tool_calls=(call,)))
    assert started.tool_calls[0].arguments == '{"q": "'
    with pytest.raises(ContentBlocked):
        outward.take(Delta(choice=0, tool_calls=(ToolCallDelta(index=0, arguments='1f\\u8bcd"}'),)))

    outward = outward_of("敏感词")
    assert outward.take(Delta(choice=0, text="敏", logprobs=(token_of("敏"),))) == []
    [told] = outward.take(Delta(choice=0, text="捷", logprobs=(token_of("捷"),)))
    assert told.text == "敏捷" and len(told.logprobs) == 2


def token_of(text: str, *others: str) -> TokenText:
    top = tuple((one, one.encode(), -2.0) for one in others)
    return TokenText(text=text, raw=text.encode(), logprob=-1.0, top=top)


def test_tokens_whose_text_does_not_come_hide_no_word() -> None:
    """The parser holds text that may be a string that ends the answer, or a call, and may never send it."""
    outward = outward_of("敏感词", "forbidden")
    assert outward.take(Delta(choice=0, logprobs=(token_of("敏"),))) == []
    assert outward.take(Delta(choice=0, logprobs=(token_of("感"),))) == []
    with pytest.raises(ContentBlocked):
        outward.take(Delta(choice=0, logprobs=(token_of("词"),)))

    outward = outward_of("forbidden")
    assert outward.take(Delta(choice=0, logprobs=(token_of("forbidden"),))) == []
    with pytest.raises(ContentBlocked):
        outward.take(ChoiceEnded(choice=0, reason="stop", stop_string="forbidden"))

    [told] = outward_of("forbidden").take(Delta(choice=0, text="so", logprobs=(token_of("so", " forbidden", "for"),)))
    assert [one[0] for one in told.logprobs[0].top] == ["for"]


def test_names_of_calls_and_what_shapes_an_answer_hide_no_word() -> None:
    call = ToolCallDelta(index=0, id="c", name="forbidden", arguments="{}")
    with pytest.raises(ContentBlocked):
        outward_of("forbidden").take(Delta(choice=0, tool_calls=(call,)))

    guard = Guard()
    guard.take([a_list("forbidden", do="block", where="prompts")])
    masker = GuardedMasker(SeesNothing(), guard, Metrics(METRICS))
    asked = GenerationRequest(request_id=RequestId("r"), model="echo", messages=(Message(role="user", content="hi"),))
    schema = '{"enum": ["forbidden"]}'
    for one in (
        replace(asked, grammar=Grammar(kind="json_schema", text=schema)),
        replace(asked, tools=(ToolSpec(name="forbidden"),)),
        replace(asked, messages=(Message(role="user", content="hi", name="forbidden"),)),
    ):
        with pytest.raises(ContentBlocked):
            masker.mask(one, ANYONE, lambda ids: "")
