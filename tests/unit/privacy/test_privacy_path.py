"""Masking on the request path: what reaches the engine, what comes back, what is kept, what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from memory_replica import MemoryReplica

from ashore.core.chat import Message, ToolCall, ToolSpec
from ashore.core.clock import SystemClock
from ashore.core.errors import PersonalDataBlocked
from ashore.core.ids import RequestId
from ashore.data.audit import RequestNote
from ashore.data.authority import OpenDoor
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs, KeptAnswer, KeptChoice
from ashore.data.engines import Grammar, Sampling
from ashore.data.path import (
    BytesText,
    ChoiceEnded,
    CountingAuditor,
    Delta,
    GenerationRequest,
    Guards,
    PrivacyMasker,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    TokenText,
    ToolCallDelta,
    Topology,
)
from ashore.data.path.masking import NOTICE
from ashore.data.privacy import POLICY_EPOCH, Expression, Privacy, PrivacyPolicy, PrivacyRoute
from ashore.kit.metrics import Metrics

ANYONE = OpenDoor().authenticate(None)
ID = "11010519491231002X"
QUESTION = f"身份证{ID}，电话13812345678，卡4111 1111 1111 1111"


class Notes(CountingAuditor):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[RequestNote] = []

    def note(self, note: RequestNote) -> None:
        self.notes.append(note)


class Bench:
    """A service over one echoing replica."""

    def __init__(self, policy: PrivacyPolicy) -> None:
        self.replica = MemoryReplica()
        self.metrics = Metrics()
        self.notes = Notes()
        self.epochs = FixedEpochs()
        self.privacy = Privacy(policy, secret=b"s" * 32)
        clock = SystemClock()
        self.service = ServingService(
            Topology(models=(ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s/0",)),)),
            make_replica=lambda socket: self.replica,
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=self.metrics,
            cache=AnswerCache(CachePolicy(mode="exact"), secret=b"c" * 32, epochs=self.epochs, clock=clock),
            guards=Guards(masker=PrivacyMasker(self.privacy, self.metrics), auditor=self.notes),
        )

    def seen(self, order: int = -1) -> str:
        """Return the prompt that the engine saw."""
        return bytes(self.replica.orders[order].prompt_ids).decode()

    async def ask(self, request: GenerationRequest) -> list[ServingEvent]:
        return [event async for event in self.service.generate(request, ANYONE)]

    async def say(self, text: str, **fields: Any) -> str:
        return text_of(await self.ask(chat(text, **fields)))


def chat(text: str, **fields: Any) -> GenerationRequest:
    messages = fields.pop("messages", (Message(role="user", content=text),))
    return GenerationRequest(request_id=RequestId("req_1"), model="echo", messages=messages, **fields)


def text_of(events: list[ServingEvent], choice: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.choice == choice)


def run(policy: PrivacyPolicy, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def whole() -> None:
        bench = Bench(policy)
        await bench.service.start()
        async with asyncio.timeout(5):
            while not all(card.ready for card in bench.service.models()):
                await asyncio.sleep(0.005)
        try:
            await scenario(bench)
        finally:
            await bench.service.close()

    asyncio.run(whole())


@pytest.mark.parametrize("action", ["mask", "pseudonymise"])
def test_the_engine_never_sees_it_and_the_client_gets_it_back(action: Any) -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.say(QUESTION) == QUESTION
        seen = bench.seen()
        assert ID not in seen and "13812345678" not in seen and "4111" not in seen
        assert bench.notes.notes[-1].masked == {"id_card": 1, "phone": 1, "bank_card": 1}

    run(PrivacyPolicy(prompts={"*": action}), scenario)


def test_every_choice_and_a_plain_prompt_come_back() -> None:
    async def scenario(bench: Bench) -> None:
        events = await bench.ask(chat(QUESTION, num_choices=2))
        assert [text_of(events, choice) for choice in (0, 1)] == [QUESTION, QUESTION]
        plain = GenerationRequest(request_id=RequestId("r"), model="echo", prompt=QUESTION, echo=True)
        assert text_of(await bench.ask(plain)) == QUESTION * 2
        assert ID not in bench.seen()

    run(PrivacyPolicy(prompts={"*": "mask"}), scenario)


def test_both_sides_of_a_gap_are_masked() -> None:
    async def scenario(bench: Bench) -> None:
        gap = GenerationRequest(request_id=RequestId("r"), model="echo", prompt="owner: ", suffix=f" is {ID}")
        assert ID in text_of(await bench.ask(gap))
        assert ID not in bench.seen()

    run(PrivacyPolicy(prompts={"*": "mask"}), scenario)


def test_all_parts_of_a_request_are_masked() -> None:
    async def scenario(bench: Bench) -> None:
        tool = ToolSpec(name="t", description=f"for {ID}", parameters=json.dumps({"enum": [ID]}))
        call = ToolCall(id="c", name="t", arguments=json.dumps({"n": ID, "phone": 13812345678}))
        messages = (
            Message(role="system", content=f"You serve {ID}"),
            Message(role="user", content=f"I am {ID}"),
            Message(role="assistant", reasoning=f"so {ID}", tool_calls=(call,)),
            Message(role="tool", content=f'{{"card": "{ID}"}}', tool_call_id="c"),
        )
        request = chat("", messages=messages, tools=(tool,), stop=(ID,), template_options={"who": ID})
        masked = PrivacyMasker(bench.privacy, bench.metrics).mask(request, ANYONE, BytesText().decode)
        assert ID not in repr(masked.request) and "13812345678" not in repr(masked.request)
        assert repr(masked.request).count("[ID_CARD_1]") == 9
        assert json.loads(masked.request.messages[2].tool_calls[0].arguments)["phone"] == "[PHONE_1]"

    run(PrivacyPolicy(prompts={"*": "mask"}), scenario)


def test_a_stop_string_with_personal_data_still_stops() -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.say(f"before {ID} after", stop=(ID,)) == "before "

    run(PrivacyPolicy(prompts={"*": "mask"}), scenario)


def test_an_answer_whose_prompt_held_personal_data_is_not_kept() -> None:
    async def scenario(bench: Bench) -> None:
        for text, kept in ((QUESTION, False), ("call 13812345678", False), ("what is a bank?", True)):
            await bench.say(text, sampling=Sampling(temperature=0))
            started = (await bench.ask(chat(text, sampling=Sampling(temperature=0))))[0]
            assert isinstance(started, Started)
            assert (started.cache != "miss") == kept

    run(PrivacyPolicy(), scenario)


def test_what_the_model_utters_by_itself_is_masked_and_not_kept() -> None:
    async def scenario(bench: Bench) -> None:
        ids = tuple(f"the card is {ID}, ok".encode())
        said = GenerationRequest(request_id=RequestId("r"), model="echo", prompt=ids, max_tokens=100)
        assert text_of(await bench.ask(said)) == f"the card is {ID}, ok"  # the request held it: nothing new
        bench.privacy.apply(PrivacyPolicy(prompts={"*": "allow"}, answers={"*": "mask"}))
        masker = PrivacyMasker(bench.privacy, bench.metrics)
        outward = masker.mask(chat("hello"), ANYONE, BytesText().decode).outward
        assert outward is not None
        told: list[ServingEvent] = []
        for piece in ("it is 1101", "0519491231", "002X, ok"):
            told += outward.take(Delta(choice=0, text=piece))
        told += outward.take(ChoiceEnded(choice=0, reason="stop"))
        assert text_of(told) == "it is [ID_CARD], ok"
        assert isinstance(told[-1], ChoiceEnded)
        assert b'ashore_masked_entities_total{action="mask",kind="id_card",where="answer"} 1' in bench.metrics.page()

    run(PrivacyPolicy(prompts={"*": "allow"}), scenario)


def test_an_answer_that_holds_personal_data_is_not_kept() -> None:
    masker = PrivacyMasker(Privacy(PrivacyPolicy(), secret=b"s" * 32), Metrics())
    masked = masker.mask(chat("what is a bank?"), ANYONE, BytesText().decode)
    assert masked.may_keep(answer("a bank keeps money"))
    assert not masked.may_keep(answer(f"it is {ID}"))
    assert not masked.may_keep(answer("it is a secret", f"hm, {ID}"))


def test_an_answer_is_checked_by_the_policy_that_masked_its_request() -> None:
    strict = PrivacyPolicy(expressions=(Expression(kind="badge", pattern="B-[0-9]+"),))
    privacy = Privacy(strict, secret=b"s" * 32)
    masked = PrivacyMasker(privacy, Metrics()).mask(chat("what is a badge?"), ANYONE, BytesText().decode)
    privacy.apply(PrivacyPolicy())
    assert masked.stamp != privacy.now.stamp
    assert not masked.may_keep(answer("such as B-1234"))


def test_an_answer_that_the_policy_before_checked_is_not_found_under_the_next_one() -> None:
    """The watch knows the epoch first, and tells what reads the policy then."""

    async def scenario(bench: Bench) -> None:
        bench.epochs.bump(POLICY_EPOCH)
        assert await label_of(bench) == "miss"  # while the policy before is still in force
        assert await label_of(bench) == "hit-exact"
        bench.privacy.apply(PrivacyPolicy(expressions=(Expression(kind="badge", pattern="B-[0-9]+"),)))
        assert await label_of(bench) == "miss"
        assert await label_of(bench) == "hit-exact"

    async def label_of(bench: Bench) -> str:
        said = chat("hello", sampling=Sampling(temperature=0.0))
        return next(event.cache for event in await bench.ask(said) if isinstance(event, Started))

    run(PrivacyPolicy(), scenario)


def answer(text: str, reasoning: str = "") -> KeptAnswer:
    return KeptAnswer(
        release="r",
        precision="int8",
        created_s=0,
        prompt_tokens=1,
        completion_tokens=1,
        reasoning_tokens=0,
        choices=(KeptChoice(text, reasoning, "stop", None),),
    )


def test_token_ids_that_hold_what_is_masked_are_refused() -> None:
    async def scenario(bench: Bench) -> None:
        said = GenerationRequest(request_id=RequestId("r"), model="echo", prompt=tuple(QUESTION.encode()))
        with pytest.raises(PersonalDataBlocked, match="token ids"):
            await bench.ask(said)
        plain = GenerationRequest(request_id=RequestId("r"), model="echo", prompt=tuple(b"hello"))
        assert text_of(await bench.ask(plain)) == "hello"

    run(PrivacyPolicy(), scenario)


def test_a_blocked_request_reaches_no_engine_and_is_noted() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(PersonalDataBlocked) as refused:
            await bench.say(QUESTION)
        assert ID not in refused.value.message and "1 id_card" in refused.value.message
        assert not bench.replica.orders
        (note,) = bench.notes.notes
        assert (note.outcome, note.error_code) == ("failed", "personal_data_blocked")

    run(PrivacyPolicy(prompts={"id_card": "block"}), scenario)


def test_inputs_of_an_embedder_are_masked() -> None:
    async def scenario(bench: Bench) -> None:
        same = await bench.service.embeddings.embed("echo", ["[ID_CARD_1]", ID], ANYONE, request_id=RequestId("r"))
        first, second = same.vectors
        assert first == second
        one = await bench.service.embeddings.embed("echo", [ID], ANYONE, request_id=RequestId("r"))
        typed = await bench.service.embeddings.embed("echo", ["[ID_CARD_1]"], ANYONE, request_id=RequestId("r"))
        assert one.vectors == typed.vectors
        assert bench.notes.notes[-2].masked == {"id_card": 1}

    run(PrivacyPolicy(), scenario)


def test_logprobs_of_a_masked_stretch_are_withheld() -> None:
    async def scenario(bench: Bench) -> None:
        events = await bench.ask(chat("no number here", top_logprobs=0))
        assert sum(len(e.logprobs) for e in events if isinstance(e, Delta)) == len("no number here")
        bench.privacy.apply(PrivacyPolicy(prompts={"*": "mask"}, answers={"*": "mask"}))
        events = await bench.ask(chat(f"number {ID} here", top_logprobs=0))
        assert text_of(events) == f"number {ID} here"
        tokens = b"".join(t.raw for e in events if isinstance(e, Delta) for t in e.logprobs)
        assert tokens == b"number [ID_CARD_1] here"

    run(PrivacyPolicy(), scenario)


@pytest.mark.parametrize("action", ["mask", "block"])
def test_tokens_whose_text_is_held_or_becomes_a_call_hide_nothing(action: Any) -> None:
    """The parser sends the tokens before their text: it may be a call, or end the answer."""
    privacy = Privacy(PrivacyPolicy(answers={"*": action}), secret=b"s" * 32)
    masker = PrivacyMasker(privacy, Metrics())

    def outward() -> Any:
        return masker.mask(chat("hi"), ANYONE, lambda ids: "").outward

    def tokens_of(events: list[ServingEvent]) -> list[TokenText]:
        return [token for event in events if isinstance(event, Delta) for token in event.logprobs]

    def spelt(one: Any, rest: Delta | ChoiceEnded) -> list[ServingEvent]:
        said = [TokenText(text=char, raw=char.encode(), logprob=-1.0) for char in f"so {ID}"]
        events = [event for token in said for event in one.take(Delta(choice=0, logprobs=(token,)))]
        events += one.take(rest)
        return events + list(one.take(ChoiceEnded(choice=0, reason="stop")))

    call = ToolCallDelta(index=0, id="c", name="f", arguments=f'{{"id":"{ID}"}}')
    for rest in (Delta(choice=0, tool_calls=(call,)), ChoiceEnded(choice=0, reason="stop", stop_string=ID)):
        if action == "block":
            with pytest.raises(PersonalDataBlocked):
                spelt(outward(), rest)
        else:
            assert not {token.text for token in tokens_of(spelt(outward(), rest))} & set(ID)
    top = TokenText(text="so", raw=b"so", logprob=-1.0, top=((ID, ID.encode(), -2.0), ("as", b"as", -3.0)))
    one = outward()
    told = tokens_of(
        [*one.take(Delta(choice=0, text="so", logprobs=(top,))), *one.take(ChoiceEnded(choice=0, reason="stop"))]
    )
    assert [name for token in told for name, _, _ in token.top] == ["as"]


def test_a_name_that_stands_twice_in_arguments_hides_nothing() -> None:
    """Nor does what is nested more deeply than it can be walked through."""
    privacy = Privacy(PrivacyPolicy(), secret=b"s" * 32)
    for said in (f'{{"id": "{ID}", "id": "-"}}', f'{{"a": [{{"id": "{ID}", "i\\u0064" : 1}}]}}'):
        table, _ = privacy.table(tenant="a", principal="p", alias="m", beginning="")
        assert ID not in table.mask_json(said)
    assert ID not in table.mask_json("[" * 3_000 + f'"{ID}"' + "]" * 3_000)
    table, _ = privacy.table(tenant="a", principal="p", alias="m", beginning="")
    for said in ('{ "id" : [{"b": "c:"}, 1] }', '[ "a", {} ]', "[" * 3_000 + "]" * 3_000):
        assert table.mask_json(said) == said


def test_what_shapes_an_answer_shows_the_engine_nothing() -> None:
    """Choices, and the tools of which one must be called, become grammars."""

    async def scenario(bench: Bench) -> None:
        await bench.say("which?", grammar=Grammar(kind="lark", text=f'start: "{ID}" | "none"'))
        assert bench.replica.orders[-1].grammar == Grammar(kind="lark", text='start: "[ID_CARD_1]" | "none"')
        with pytest.raises(PersonalDataBlocked, match="expression"):
            await bench.say("which?", grammar=Grammar(kind="regex", text=ID))
        await bench.say("which?", grammar=Grammar(kind="regex", text="[0-9]{17}[0-9X]"))

    run(PrivacyPolicy(), scenario)


def test_counting_tokens_counts_what_the_model_would_see() -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.service.tokens.count(chat(ID), ANYONE) == len("[ID_CARD_1]")

    run(PrivacyPolicy(), scenario)


@pytest.mark.parametrize(
    ("label", "marked", "said"), [("off", False, ""), ("metadata", True, ""), ("notice", True, NOTICE)]
)
def test_generated_text_is_labelled_as_the_policy_says(label: Any, marked: bool, said: str) -> None:
    async def scenario(bench: Bench) -> None:
        events = await bench.ask(chat("hello"))
        assert isinstance(events[0], Started)
        assert events[0].labelled == marked
        assert text_of(events) == "hello" + said

    run(PrivacyPolicy(label=label), scenario)


def test_the_most_particular_route_decides_about_the_label() -> None:
    async def scenario(bench: Bench) -> None:
        started = (await bench.ask(chat("hello")))[0]
        assert isinstance(started, Started) and not started.labelled

    run(PrivacyPolicy(label="notice", routes=(PrivacyRoute(alias="echo", label="off"),)), scenario)
