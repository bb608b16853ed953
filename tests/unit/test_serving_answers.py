"""The request path with a cache in it: what is kept, what is shared, what is charged and noted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from memory_replica import MemoryReplica
from memory_tier import MemoryTier

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, DeadlineExceeded, HostDied, Overloaded
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import OpenDoor, Principal
from ashore.data.authority.budgets import Standing
from ashore.data.cache import AnswerCache, CachePolicy, Directive, FixedEpochs
from ashore.data.engines import EngineOptions, ModelFiles, Sampling, content_of
from ashore.data.path import (
    BytesText,
    ChoiceEnded,
    CountingAuditor,
    Delta,
    GenerationRequest,
    Guards,
    Reservation,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    ToolCallDelta,
    Topology,
    Unlimited,
    Usage,
)
from ashore.data.path.cached_answers import NOT_IN_FRAME, ask_of, worth_keeping
from ashore.kit.metrics import Metrics

ANYONE = OpenDoor().authenticate(None)
GREEDY = Sampling(temperature=0.0)


def ask(text: str = "hello", **fields: Any) -> GenerationRequest:
    fields.setdefault("sampling", GREEDY)
    return GenerationRequest(
        request_id=RequestId("req_1"), model="echo", messages=(Message(role="user", content=text),), **fields
    )


class Strict(Unlimited):
    """A budget of so many requests."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def charge_hit_now(self, principal: Principal, alias: str, tokens: int) -> Standing | None:
        if self.requests.get(principal.id, 0) >= self.most:
            return None
        return super().charge_hit_now(principal, alias, tokens)

    async def charge_hit(self, principal: Principal, alias: str, tokens: int, *, request_id: str = "") -> None:
        if not self.charge_hit_now(principal, alias, tokens):
            raise Overloaded("no requests left today", retry_after_s=60)

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
        if self.requests.get(principal.id, 0) >= self.most:
            raise Overloaded("no requests left today", retry_after_s=60)
        return await super().reserve(principal, alias, tokens)


class Bench:
    """A service with a cache over one replica."""

    def __init__(
        self,
        replica: MemoryReplica | None = None,
        budgets: Unlimited | None = None,
        *,
        shared: MemoryTier | None = None,
        served: ServedModel | None = None,
    ) -> None:
        self.replica = replica or MemoryReplica()
        self.budgets, self.auditor, self.metrics = budgets or Unlimited(), CountingAuditor(), Metrics()
        self.epochs = FixedEpochs()
        clock = SystemClock()
        served = served or ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s",))
        self.topology = Topology(models=(served,))
        self.service = ServingService(
            self.topology,
            make_replica=lambda socket: self.replica,
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=self.metrics,
            cache=AnswerCache(CachePolicy(), secret=b"s" * 32, epochs=self.epochs, clock=clock, shared=shared),
            guards=Guards(budgets=self.budgets, auditor=self.auditor),
        )

    async def started(self) -> Bench:
        await self.service.start()
        while not all(card.ready for card in self.service.models()):
            await asyncio.sleep(0.001)
        return self

    async def answer(self, request: GenerationRequest, principal: Principal = ANYONE) -> list[ServingEvent]:
        return [event async for event in self.service.generate(request, principal)]

    @property
    def generations(self) -> int:
        return len(self.replica.orders)


def run(scenario: Callable[[Bench], Any], *bench: Any) -> Any:
    async def whole() -> Any:
        made = await Bench(*bench).started()
        try:
            return await scenario(made)
        finally:
            await made.service.close()

    return asyncio.run(whole())


def text_of(events: list[ServingEvent]) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta))


def label_of(events: list[ServingEvent]) -> str:
    assert isinstance(events[0], Started)
    return events[0].cache


def test_the_second_answer_is_the_first_one_kept() -> None:
    async def scenario(bench: Bench) -> None:
        first, second = await bench.answer(ask()), await bench.answer(ask())
        assert (label_of(first), label_of(second), bench.generations) == ("miss", "hit-exact", 1)
        assert text_of(first) == text_of(second) == "hello"
        assert isinstance(first[-1], Usage) and isinstance(second[-1], Usage)
        assert first[-1].completion_tokens == second[-1].completion_tokens == 5
        assert bench.auditor.outcomes == {("answered", "miss"): 1, ("answered", "hit-exact"): 1}
        assert bench.budgets.requests == {"anyone": 2}
        assert bench.metrics.value("ashore_cache_lookups", "echo", "hit-exact") == 1

    run(scenario)


@pytest.mark.parametrize(
    "request_",
    [
        ask(sampling=Sampling(temperature=1.0)),
        ask(cache=Directive(no_store=True)),
        ask(top_logprobs=2),
    ],
)
def test_what_is_never_kept(request_: GenerationRequest) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(2):
            assert label_of(await bench.answer(request_)) == "miss"
        assert bench.generations == 2

    run(scenario)


def test_only_a_whole_answer_without_tool_calls_may_be_kept() -> None:
    started = Started(model="echo", release="echo-1", precision="none", prompt_tokens=1, created_s=1)
    usage = Usage(prompt_tokens=1, cached_tokens=0, completion_tokens=1)
    ended = ChoiceEnded(choice=0, reason="stop")

    def kept(*events: ServingEvent) -> bool:
        return worth_keeping(events, usage, 1) is not None

    assert kept(started, Delta(choice=0, text="a"), ended)
    assert not kept(Delta(choice=0, text="a"), ended)
    assert not kept(started, Delta(choice=0, text="a"))
    assert not kept(started, Delta(choice=0, tool_calls=(ToolCallDelta(index=0, name="f"),)), ended)
    assert not kept(started, ChoiceEnded(choice=0, reason="tool_calls"))
    assert not kept(started, Delta(choice=0, text="a"), ChoiceEnded(choice=0, reason="length", cut_by="budget"))


@pytest.mark.parametrize(
    "other",
    [
        ask("hello!"),
        ask(max_tokens=3),
        ask(sampling=Sampling(temperature=0.0, top_k=3)),
        ask(stop=("z",)),
        msgspec.structs.replace(
            ask(), messages=(Message(role="system", content="be brief"), Message(role="user", content="hello"))
        ),
        ask(template_options={"thinking": True}),
        msgspec.structs.replace(ask(), messages=(), prompt="hello"),
        msgspec.structs.replace(ask(), messages=(Message(role="user", content="hello", reasoning="let me see"),)),
        msgspec.structs.replace(ask(), messages=(Message(role="user", content="hello", tool_call_id="call_1"),)),
    ],
)
def test_another_question_gets_another_answer(other: GenerationRequest) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask())
        assert label_of(await bench.answer(other)) == "miss"

    run(scenario)


class Wider(GenerationRequest, frozen=True, kw_only=True):
    """A request with a field that nobody told the cache of."""

    tone: str = ""


def test_a_field_that_somebody_adds_and_forgets_separates_answers() -> None:
    served = ServedModel(alias="echo", release="echo-1", kind="fake", sockets=())

    def frame(request: GenerationRequest) -> bytes:
        return ask_of(request, served, ANYONE, storable=True, masking=b"").frame

    plain = {"request_id": RequestId("r"), "model": "echo", "prompt": "x"}
    assert frame(Wider(**plain, tone="warm")) != frame(Wider(**plain, tone="cold"))
    assert frame(Wider(**plain)) == frame(Wider(**{**plain, "request_id": RequestId("s")}, priority=9))
    assert set(GenerationRequest.__struct_fields__) >= NOT_IN_FRAME, "each name is a field"


def test_another_tenant_gets_another_answer() -> None:
    async def scenario(bench: Bench) -> None:
        rival = Principal(id="bob", tenant=TenantId("rival"), roles=ANYONE.roles)
        await bench.answer(ask())
        assert label_of(await bench.answer(ask(), rival)) == "miss"
        assert label_of(await bench.answer(ask(), rival)) == "hit-exact"

    run(scenario)


def test_other_weights_under_the_name_of_the_same_release_get_new_answers() -> None:
    """Releases are numbered from 1 at every start; a cache on another machine remembers what was before it."""
    shared = MemoryTier(SystemClock())

    async def scenario(content: str) -> str:
        served = ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s",), content=content)
        bench = await Bench(shared=shared, served=served).started()
        try:
            return label_of(await bench.answer(ask()))
        finally:
            await bench.service.close()

    contents = ("weights a", "weights b", "weights a", "weights b")
    assert [asyncio.run(scenario(content)) for content in contents] == ["miss", "miss", "hit-exact", "hit-exact"]


def test_what_decides_an_answer_has_a_name(tmp_path: Path) -> None:
    files = ModelFiles(name="m@int8", digest="sha256:1", directory="/m", format="openvino")
    options = EngineOptions(kind="openvino")
    (tmp_path / "adapter.safetensors").write_bytes(b"1")
    adapters = {"legal": str(tmp_path)}
    names = [
        content_of(files, options, {}),
        content_of(msgspec.structs.replace(files, digest="sha256:2"), options, {}),
        content_of(files, msgspec.structs.replace(options, extra={"kv_cache": "u8"}), {}),
        content_of(files, options, adapters),
    ]
    (tmp_path / "adapter.safetensors").write_bytes(b"22")
    names.append(content_of(files, options, adapters))
    assert len(set(names)) == len(names)
    elsewhere = msgspec.structs.replace(files, directory="/elsewhere")
    assert content_of(elsewhere, msgspec.structs.replace(options, threads=4, kv_tokens=9), {}) == names[0]


def test_a_new_release_gets_new_answers() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask())
        bench.replica = MemoryReplica()
        models = (replace_release(bench.topology.models[0], "echo-2"),)
        await bench.service.apply(Topology(models=models))
        events = await bench.answer(ask())
        assert (label_of(events), events[0].release) == ("miss", "echo-2")  # type: ignore[union-attr]

    run(scenario)


def replace_release(model: ServedModel, release: str) -> ServedModel:
    return ServedModel(alias=model.alias, release=release, kind=model.kind, sockets=model.sockets)


def test_a_thousand_identical_questions_at_once_cost_one_generation() -> None:
    async def scenario(bench: Bench) -> None:
        answers = await asyncio.gather(*(bench.answer(ask()) for _ in range(1000)))
        assert bench.generations == 1
        assert {text_of(events) for events in answers} == {"hello"}
        assert sorted(label_of(events) for events in answers) == ["hit-exact"] * 999 + ["miss"]
        assert bench.budgets.requests == {"anyone": 1000}

    run(scenario, MemoryReplica(token_s=0.01))


def test_who_comes_late_reads_from_the_beginning_while_it_is_made() -> None:
    async def scenario(bench: Bench) -> None:
        first = asyncio.create_task(bench.answer(ask("a long enough answer")))
        while bench.replica.completed_tokens < 5:
            await asyncio.sleep(0.001)
        async with aclosing(bench.service.generate(ask("a long enough answer"), ANYONE)) as late:
            assert isinstance(await anext(late), Started)
            assert not first.done()
            rest = [event async for event in late]
        assert text_of(rest) == text_of(await first) == "a long enough answer"

    run(scenario, MemoryReplica(token_s=0.005))


def test_the_first_one_to_ask_may_go_away_and_the_last_one_to_read_ends_it() -> None:
    async def scenario(bench: Bench) -> None:
        first = asyncio.create_task(bench.answer(ask("hello world")))
        while not bench.replica.completed_tokens:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(bench.answer(ask("hello world")))
        await asyncio.sleep(0.005)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert bench.replica.running == 1
        assert text_of(await second) == "hello world"
        third = asyncio.create_task(bench.answer(ask("something else")))
        while bench.replica.running == 0:
            await asyncio.sleep(0.001)
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        assert bench.replica.running == 0
        assert label_of(await bench.answer(ask("something else"))) == "miss"

    run(scenario, MemoryReplica(token_s=0.003))


def test_an_answer_that_broke_off_is_not_kept_and_all_who_read_it_hear_so() -> None:
    async def scenario(bench: Bench) -> None:
        results = await asyncio.gather(*(bench.answer(ask("hello world")) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, HostDied) for result in results)
        assert bench.service.cache.stats().stored == 0
        assert bench.auditor.outcomes == {("failed", "miss"): 1, ("failed", "hit-exact"): 4}

    run(scenario, MemoryReplica(token_s=0.002, die_after=4))


def test_each_reader_keeps_its_own_deadline() -> None:
    async def scenario(bench: Bench) -> None:
        first = asyncio.create_task(bench.answer(ask("hello world")))
        while not bench.replica.completed_tokens:
            await asyncio.sleep(0.001)
        *pieces, ended, usage = await bench.answer(ask("hello world", deadline_s=0.01))
        assert 0 < len(text_of(pieces)) < len("hello world")
        assert ended == ChoiceEnded(choice=0, reason="length", cut_by="deadline")
        assert isinstance(usage, Usage)
        assert usage.completion_tokens == len(text_of(pieces))
        assert text_of(await first) == "hello world"

    run(scenario, MemoryReplica(token_s=0.02))


def test_a_reader_whose_deadline_passes_before_it_had_a_piece_is_told_so() -> None:
    async def scenario(bench: Bench) -> None:
        first = asyncio.create_task(bench.answer(ask("hi")))
        while not bench.replica.running:
            await asyncio.sleep(0.001)
        with pytest.raises(DeadlineExceeded) as caught:
            await bench.answer(ask("hi", deadline_s=0.01))
        assert "x-ashore-deadline-ms" in caught.value.hint
        assert text_of(await first) == "hi"

    run(scenario, MemoryReplica(token_s=0.3))


@pytest.mark.parametrize(
    ("worse", "joins"),
    [
        ({"deadline_s": 5.0}, False),
        ({"priority": -1}, False),
        ({"urgency": "background"}, False),
        ({"deadline_s": 60.0, "priority": 7}, True),
        ({}, True),
    ],
)
def test_nobody_shares_a_generation_that_is_served_worse_than_its_own_would_be(
    worse: dict[str, Any], joins: bool
) -> None:
    """Else a client that gives its question a moment, or the end of the line, gives that to everybody who asks it."""

    async def scenario(bench: Bench) -> None:
        first = asyncio.create_task(bench.answer(ask("hello world", **worse)))
        while not bench.replica.completed_tokens:
            await asyncio.sleep(0.001)
        second = await bench.answer(ask("hello world", deadline_s=10.0))
        assert (text_of(second), text_of(await first)) == ("hello world", "hello world")
        assert (label_of(second), bench.generations) == (("hit-exact", 1) if joins else ("miss", 2))

    run(scenario, MemoryReplica(token_s=0.005))


def test_a_short_deadline_ends_nobody_elses_answer() -> None:
    async def scenario(bench: Bench) -> None:
        hasty = asyncio.create_task(bench.answer(ask("hello world", deadline_s=0.1)))
        while not bench.replica.completed_tokens:
            await asyncio.sleep(0.001)
        assert text_of(await bench.answer(ask("hello world"))) == "hello world"
        *_, ended, _ = await hasty
        assert ended == ChoiceEnded(choice=0, reason="length", cut_by="deadline")

    run(scenario, MemoryReplica(token_s=0.03))


def test_a_budget_refuses_kept_answers_too() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask())
        await bench.answer(ask())
        with pytest.raises(Overloaded):
            await bench.answer(ask())
        assert bench.auditor.outcomes[("failed", "miss")] == 1

    run(scenario, None, Strict(2))


def test_a_purge_is_seen_at_once() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask())
        bench.epochs.bump("cache")
        assert label_of(await bench.answer(ask())) == "miss"

    run(scenario)


def test_errors_before_the_answer_are_not_kept() -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(2):
            with pytest.raises(AshoreError):
                await bench.answer(ask("x" * 5000))
        assert bench.service.cache.stats().stored == 0

    run(scenario)


def test_embeddings_are_charged_and_noted() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.service.embeddings.embed("echo", ["a"], ANYONE, request_id=RequestId("req_e"))
        assert bench.budgets.requests == {"anyone": 1}
        assert bench.auditor.outcomes == {("answered", "miss"): 1}
        with pytest.raises(Overloaded):
            await bench.service.embeddings.embed("echo", ["a"], ANYONE, request_id=RequestId("req_e"))

    run(scenario, None, Strict(1))
