"""The request path over replicas in memory: stages, retries, deadlines, what reaches the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from memory_replica import ECHO_INFO, MemoryReplica

from ashore.core.chat import Message, ToolSpec
from ashore.core.clock import SystemClock
from ashore.core.errors import (
    AshoreError,
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    InvalidGrammar,
    InvalidRequest,
    NotReady,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    UnknownModel,
    UnsupportedByEngine,
)
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import KeyScope, OpenDoor, Principal
from ashore.data.engines import Grammar, Sampling
from ashore.data.path import (
    AdmissionSection,
    BytesText,
    ChoiceEnded,
    Delta,
    GenerationRequest,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
    Usage,
)
from ashore.data.path.embedding import NUMBER_BYTES, TOKEN_BYTES
from ashore.data.path.orders import room_for_answer
from ashore.data.path.scoring import prompt_tokens_told
from ashore.kit.metrics import Metrics

ANYONE = OpenDoor().authenticate(None)


def ask(text: str = "hello", **fields: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId("req_1"), model="echo", messages=(Message(role="user", content=text),), **fields
    )


class Bench:
    """A service over replicas that a test holds in its hands."""

    def __init__(self, *made: MemoryReplica, sockets: int = 1, **topology: Any) -> None:
        self._queue = list(made)
        self.used: list[MemoryReplica] = []
        self.metrics = Metrics()
        self.refused_grammars: list[Grammar] = []
        model = ServedModel(
            alias="echo", release="echo-1", kind="fake", sockets=tuple(f"/s/{i}" for i in range(sockets))
        )
        self.topology = Topology(models=(model,), **topology)
        self.service = ServingService(
            self.topology,
            make_replica=self._make,
            load_text=lambda served: BytesText(),
            check_grammar=self._check_grammar,
            clock=SystemClock(),
            metrics=self.metrics,
        )

    def _make(self, socket: str) -> MemoryReplica:
        replica = self._queue.pop(0) if self._queue else MemoryReplica()
        self.used.append(replica)
        return replica

    def _check_grammar(self, grammar: Grammar) -> None:
        if "bad" in grammar.text:
            self.refused_grammars.append(grammar)
            raise InvalidGrammar("bad")

    async def started(self) -> Bench:
        await self.service.start()
        for _ in range(200):
            if all(card.ready for card in self.service.models()):
                return self
            await asyncio.sleep(0.005)
        raise AssertionError("not ready")

    async def answer(self, request: GenerationRequest, principal: Principal = ANYONE) -> list[ServingEvent]:
        return [event async for event in self.service.generate(request, principal)]


def run(*made: MemoryReplica, scenario: Callable[[Bench], Any], **options: Any) -> Any:
    async def whole() -> Any:
        bench = await Bench(*made, **options).started()
        try:
            return await scenario(bench)
        finally:
            await bench.service.close()

    return asyncio.run(whole())


def text_of(events: list[ServingEvent], choice: int = 0) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta) and e.choice == choice)


def test_an_answer_starts_pours_ends_and_counts() -> None:
    events = run(scenario=lambda b: b.answer(ask("hällo 你好")))
    assert isinstance(events[0], Started)
    assert (events[0].release, events[0].prompt_tokens) == ("echo-1", len("hällo 你好".encode()))
    assert text_of(events) == "hällo 你好"
    assert events[-2] == ChoiceEnded(choice=0, reason="stop")
    assert events[-1] == Usage(prompt_tokens=13, cached_tokens=0, completion_tokens=13)


def test_choices_have_seeds_of_their_own_and_one_partition() -> None:
    async def scenario(bench: Bench) -> None:
        events = await bench.answer(ask("abc", num_choices=3, sampling=Sampling(seed=7)))
        assert [text_of(events, c) for c in range(3)] == ["abc"] * 3
        assert isinstance(events[-1], Usage)
        assert events[-1].completion_tokens == 9
        assert events[-1].prompt_tokens == 3
        orders = bench.used[0].orders
        assert [o.sampling.seed for o in orders] == [7, 8, 9]
        assert len({o.order_id for o in orders}) == 3
        assert {o.prefix_partition for o in orders} == {"default"}

    run(scenario=scenario)


def test_tenants_share_prefix_blocks_only_when_the_operator_says_so() -> None:
    async def scenario(bench: Bench) -> list[str]:
        other = Principal(id="x", tenant=TenantId("other"), roles=ANYONE.roles)
        await bench.answer(ask())
        await bench.answer(ask(), other)
        return [o.prefix_partition for o in bench.used[0].orders]

    assert run(scenario=scenario) == ["default", "other"]
    assert run(scenario=scenario, shared_prefix_cache=True) == ["", ""]


def test_an_adapter_is_a_name_of_its_own_over_the_same_replicas() -> None:
    async def scenario(bench: Bench) -> None:
        model = msgspec.structs.replace(bench.topology.models[0], adapters=("legal", "tone"))
        await bench.service.apply(msgspec.structs.replace(bench.topology, models=(model,)))
        assert [card.alias for card in bench.service.models()] == ["echo", "echo:legal", "echo:tone"]
        for name in ("echo", "echo:legal", "echo:tone"):
            events = await bench.answer(msgspec.structs.replace(ask(), model=name))
            assert isinstance(events[0], Started) and events[0].model == name
        (replica,) = bench.used
        assert [order.adapter for order in replica.orders] == [None, "legal", "tone"]
        with pytest.raises(UnknownModel) as caught:
            await bench.answer(msgspec.structs.replace(ask(), model="echo:lega"))
        assert "echo:legal" in caught.value.hint
        await bench.service.apply(bench.topology)
        with pytest.raises(UnknownModel):
            await bench.answer(msgspec.structs.replace(ask(), model="echo:tone"))

    run(scenario=scenario)


def test_an_answer_of_who_may_not_ask_any_more_ends_also_where_the_site_may_not_serve() -> None:
    def gone(principal: Principal) -> Principal:
        raise Unauthenticated(f"the account {principal.id} is disabled")

    async def scenario(bench: Bench) -> None:
        reception = bench.service.reception
        answer = asyncio.create_task(bench.answer(ask("word " * 50)))
        while not bench.used[0].running:
            await asyncio.sleep(0.005)
        reception.lapsed = "no news of the centre"
        reception.end_revoked()
        assert reception.in_flight == 1, "a lapse ends no answer under way"
        reception.current = gone
        reception.end_revoked()
        with pytest.raises(Unauthenticated):
            await answer
        assert reception.in_flight == 0

    run(MemoryReplica(token_s=0.05), scenario=scenario)


def test_what_a_caller_may_ask_is_what_it_may_once_its_body_has_come() -> None:
    async def scenario(bench: Bench) -> None:
        reception = bench.service.reception
        reception.current = lambda principal: replace(principal, scope=KeyScope(models=("other",)))
        with pytest.raises(PermissionDenied):
            await bench.answer(ask("word"))

    run(scenario=scenario)


def test_stop_strings_end_the_answer_and_the_sequence() -> None:
    async def scenario(bench: Bench) -> None:
        events = await bench.answer(ask("one two three", stop=("thr", " tw")))
        assert text_of(events) == "one"
        assert events[-2] == ChoiceEnded(choice=0, reason="stop", stop_string=" tw")
        await asyncio.sleep(0.01)
        assert bench.used[0].running == 0

    run(scenario=scenario)


def test_an_answer_cut_by_a_stop_string_still_tells_what_the_prefix_cache_held() -> None:
    async def scenario(bench: Bench) -> None:
        for stop in ((" tw",), ()):
            usage = (await bench.answer(ask("one two three", stop=stop)))[-1]
            assert isinstance(usage, Usage) and usage.cached_tokens == 7

    run(MemoryReplica(cached_tokens=7), scenario=scenario)


def test_max_tokens_ends_with_length() -> None:
    events = run(scenario=lambda b: b.answer(ask("abcdef", max_tokens=3)))
    assert text_of(events) == "abc"
    assert events[-2] == ChoiceEnded(choice=0, reason="length")


def test_echo_puts_the_prompt_first() -> None:
    request = GenerationRequest(request_id=RequestId("r"), model="echo", prompt="ab", echo=True, num_choices=2)
    events = run(scenario=lambda b: b.answer(request))
    assert [text_of(events, c) for c in range(2)] == ["abab", "abab"]


def test_echo_with_log_probabilities_tells_those_of_the_prompt() -> None:
    request = GenerationRequest(
        request_id=RequestId("r"), model="echo", prompt="abc", echo=True, max_tokens=0, top_logprobs=2
    )

    async def scenario(bench: Bench) -> list[ServingEvent]:
        events = await bench.answer(request)
        assert bench.used[0].orders == [], "nothing was to be generated"
        return events

    started, delta, ended, usage = run(scenario=scenario)
    assert isinstance(started, Started) and isinstance(delta, Delta)
    assert (delta.text, [t.text for t in delta.logprobs]) == ("abc", ["a", "b", "c"])
    assert [t.first for t in delta.logprobs] == [True, False, False]
    assert [text for text, _, _ in delta.logprobs[1].top] == ["b", "c"]
    assert ended == ChoiceEnded(choice=0, reason="length")
    assert usage == Usage(prompt_tokens=3, cached_tokens=0, completion_tokens=0)


def test_the_scores_of_a_long_prompt_are_told_on_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def told(*args: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return prompt_tokens_told(*args)

    monkeypatch.setattr("ashore.data.path.feed.prompt_tokens_told", told)
    for length in (10, 1000):
        request = GenerationRequest(
            request_id=RequestId("r"), model="echo", prompt="x" * length, echo=True, max_tokens=0, top_logprobs=2
        )
        run(scenario=lambda bench, request=request: bench.answer(request))
    assert threads == [True, False]


class DiesScoring(MemoryReplica):
    """Gone as soon as it is asked for a score."""

    async def score(self, texts: list[Any], *, top_logprobs: int = 0, tenant: str = "") -> Any:
        self.die()
        self._check_alive()


def test_a_prompt_is_scored_by_another_replica_when_one_dies() -> None:
    request = GenerationRequest(request_id=RequestId("r"), model="echo", prompt="abc", echo=True, top_logprobs=0)
    events = run(DiesScoring(), scenario=lambda b: b.answer(request))
    assert text_of(events) == "abcabc"


@pytest.mark.parametrize(("lacking", "asked"), [("score", "echo"), ("logprobs", "logprobs")])
def test_an_engine_that_does_not_score_is_named(lacking: str, asked: str) -> None:
    info = msgspec.structs.replace(ECHO_INFO, features=tuple(f for f in ECHO_INFO.features if f != lacking))
    request = GenerationRequest(request_id=RequestId("r"), model="echo", prompt="abc", echo=True, top_logprobs=0)
    with pytest.raises(UnsupportedByEngine, match=f"the engine 'fake' behind 'echo' cannot do '{asked}'"):
        run(MemoryReplica(info), scenario=lambda b: b.answer(request))


@pytest.mark.parametrize(("asked", "told"), [(4091, 0), (4092, 4091), (32_000, 4091), (None, 0)])
def test_an_answer_longer_than_the_context_leaves_is_asked_for_as_long_as_it_leaves(
    asked: int | None, told: int
) -> None:
    async def scenario(bench: Bench) -> None:
        started = (await bench.answer(ask("xxxxx", max_tokens=asked)))[0]
        assert isinstance(started, Started)
        assert started.clamped_to == told
        assert bench.used[0].orders[0].max_new_tokens == 4091

    run(scenario=scenario)


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (msgspec.structs.replace(ask(), model="ecko"), UnknownModel, "ecko"),
        (ask("x" * 5000), ContextTooLong, "5000 tokens and the context of memory:echo is 4096"),
        (ask(""), InvalidRequest, "empty"),
        (ask(grammar=Grammar(kind="json_schema", text="bad")), InvalidGrammar, "bad"),
        (ask(tool_choice="required"), InvalidRequest, "tools is empty"),
        (ask(tools=(ToolSpec(name="go"),), tool_choice="tool:stop"), InvalidRequest, "not among"),
        (
            ask(tools=(ToolSpec(name="go"),), tool_choice="required", grammar=Grammar(kind="json_object")),
            InvalidRequest,
            "contradict",
        ),
        (ask(sampling=Sampling(logit_bias={99999: 1.0})), InvalidRequest, "99999"),
        (
            GenerationRequest(request_id=RequestId("r"), model="echo", prompt=(1, 300)),
            InvalidRequest,
            "token id 300",
        ),
    ],
)
def test_what_cannot_be_served_never_reaches_the_engine(
    request_: GenerationRequest, error: type[AshoreError], words: str
) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(error) as refusal:
            await bench.answer(request_)
        assert words in refusal.value.message
        assert bench.used[0].orders == []
        assert bench.service.in_flight == 0

    run(scenario=scenario)


def test_an_engine_that_lacks_a_feature_is_named_with_what_it_can_do() -> None:
    plain = MemoryReplica(msgspec.structs.replace(ECHO_INFO, features=("temperature",)))
    for fields, param in (
        ({"sampling": Sampling(top_k=5)}, "top_k"),
        ({"sampling": Sampling(seed=1)}, "seed"),
        ({"top_logprobs": 0}, "logprobs"),
        ({"grammar": Grammar(kind="json_object")}, "response_format"),
    ):

        async def scenario(bench: Bench, fields: dict[str, Any] = fields, param: str = param) -> None:
            with pytest.raises(UnsupportedByEngine) as refusal:
                await bench.answer(ask(**fields))
            assert "'fake'" in refusal.value.message
            assert "can do: temperature" in refusal.value.message
            assert refusal.value.param == param

        run(plain, scenario=scenario)


def test_a_required_tool_becomes_a_grammar() -> None:
    async def scenario(bench: Bench) -> None:
        tools = (
            ToolSpec(name="go", parameters='{"type":"object","properties":{"to":{"type":"string"}}}'),
            ToolSpec(name="x"),
        )
        await bench.answer(ask(tools=tools, tool_choice="tool:go"))
        grammar = bench.used[0].orders[0].grammar
        assert grammar is not None
        assert '"const": "go"' in grammar.text
        assert '"const": "x"' not in grammar.text

    run(scenario=scenario)


def test_a_principal_without_the_scope_is_refused() -> None:
    nobody = Principal(id="n", tenant=TenantId("t"), roles=frozenset())
    with pytest.raises(PermissionDenied, match="infer"):
        run(scenario=lambda b: b.answer(ask(), nobody))


def test_a_host_that_dies_before_the_first_token_is_replaced() -> None:
    async def scenario(bench: Bench) -> None:
        events = await bench.answer(ask("again"))
        assert text_of(events) == "again"
        assert sum(isinstance(e, Started) for e in events) == 1
        assert bench.metrics.value("ashore_retries", "echo") == 1
        assert len(bench.used) == 2

    run(MemoryReplica(die_after=0), scenario=scenario)


def test_a_model_that_never_loaded_says_so_at_once() -> None:
    class Loading(MemoryReplica):
        async def connect(self, timeout_s: float) -> None:
            raise NotReady

    async def scenario() -> None:
        bench = Bench(*[Loading() for _ in range(50)])
        await bench.service.start()
        with pytest.raises(NotReady, match="still loading"):
            await bench.answer(ask())
        await bench.service.close()

    asyncio.run(scenario())


def test_the_clients_deadline_ends_an_answer_and_leaves_what_there_is_of_it() -> None:
    async def scenario(bench: Bench) -> None:
        for choices in (1, 2):
            events = await bench.answer(ask("x" * 200, deadline_s=0.1, num_choices=choices))
            ends = [event for event in events if isinstance(event, ChoiceEnded)]
            assert [(end.reason, end.cut_by) for end in ends] == [("length", "deadline")] * choices
            said = sum(len(text_of(events, choice)) for choice in range(choices))
            usage = events[-1]
            assert isinstance(usage, Usage)
            assert 0 < usage.completion_tokens == said < 200
            await asyncio.sleep(0.03)
            assert bench.used[0].running == 0

    run(MemoryReplica(token_s=0.02), scenario=scenario)


def test_a_deadline_that_passes_before_the_first_token_is_an_error_that_says_where_it_is_set() -> None:
    async def scenario(bench: Bench) -> None:
        for given in ({}, {"deadline_s": 0.03}):
            with pytest.raises(DeadlineExceeded) as caught:
                await bench.answer(ask("hello", **given))
            assert "x-ashore-deadline-ms" in caught.value.hint
            assert "default_deadline_s" in caught.value.hint
            await asyncio.sleep(0.03)
            assert bench.used[0].running == 0

    run(MemoryReplica(token_s=0.5), scenario=scenario, admission=AdmissionSection(default_deadline_s=0.05))


def test_the_servers_own_deadline_limits_the_wait_and_no_answer_that_goes_on() -> None:
    async def scenario(bench: Bench) -> None:
        for choices in (1, 2):
            events = await bench.answer(ask("x" * 10, num_choices=choices))
            assert text_of(events) == "x" * 10
            assert ChoiceEnded(choice=0, reason="stop") in events

    run(MemoryReplica(token_s=0.1), scenario=scenario, admission=AdmissionSection(default_deadline_s=0.6))


class FallsSilent(MemoryReplica):
    """Makes three tokens, and no more."""

    async def pause(self) -> None:
        await asyncio.sleep(0.001 if self.completed_tokens < 3 else 60)


def test_an_answer_that_stands_still_does_not_wait_for_ever() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(DeadlineExceeded):
            await bench.answer(ask("hello"))
        await asyncio.sleep(0.01)
        assert bench.used[0].running == 0

    run(FallsSilent(), scenario=scenario, admission=AdmissionSection(default_deadline_s=0.05))


def test_closing_the_answer_frees_its_sequences_and_its_slot() -> None:
    async def scenario(bench: Bench) -> None:
        for choices in (1, 3):
            events = bench.service.generate(ask("x" * 200, num_choices=choices), ANYONE)
            async for event in events:
                if isinstance(event, Delta):
                    break
            assert bench.used[0].running == choices
            await events.aclose()
            await asyncio.sleep(0.03)
            assert bench.used[0].running == 0
            assert bench.service.in_flight == 0

    run(MemoryReplica(token_s=0.01), scenario=scenario)


def test_load_is_spread_over_replicas() -> None:
    async def scenario(bench: Bench) -> None:
        await asyncio.gather(*(bench.answer(ask("0123456789")) for _ in range(8)))
        assert [len(r.orders) for r in bench.used] == [4, 4]

    run(MemoryReplica(token_s=0.001), MemoryReplica(token_s=0.001), scenario=scenario, sockets=2)


def test_draining_lets_the_running_end_and_refuses_the_new() -> None:
    async def scenario(bench: Bench) -> None:
        running = asyncio.create_task(bench.answer(ask("0123456789")))
        await asyncio.sleep(0.02)
        drained = asyncio.create_task(bench.service.drain(5))
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await bench.answer(ask())
        assert await drained
        assert text_of(await running) == "0123456789"

    run(MemoryReplica(token_s=0.005), scenario=scenario)


def test_a_new_topology_adds_and_removes_models_while_a_stream_runs() -> None:
    async def scenario(bench: Bench) -> None:
        running = asyncio.create_task(bench.answer(ask("0123456789")))
        await asyncio.sleep(0.01)
        other = ServedModel(alias="other", release="other-1", kind="fake", sockets=("/s/9",))
        await bench.service.apply(msgspec.structs.replace(bench.topology, models=(*bench.topology.models, other)))
        assert [card.alias for card in bench.service.models()] == ["echo", "other"]
        assert text_of(await running) == "0123456789"
        await bench.service.apply(msgspec.structs.replace(bench.topology, models=(other,)))
        with pytest.raises(UnknownModel):
            await bench.answer(ask())

    run(MemoryReplica(token_s=0.003), scenario=scenario)


def test_embeddings_are_unit_vectors_shortened_on_demand() -> None:
    async def scenario(bench: Bench) -> None:
        whole = await bench.service.embeddings.embed("echo", ["a", (1, 2)], ANYONE, request_id=RequestId("req_e"))
        assert [len(v) for v in whole.vectors] == [8, 8]
        assert whole.prompt_tokens == 3
        short = await bench.service.embeddings.embed("echo", ["a"], ANYONE, request_id=RequestId("req_e"), dimensions=3)
        assert len(short.vectors[0]) == 3
        assert sum(x * x for x in short.vectors[0]) == pytest.approx(1)
        with pytest.raises(UnsupportedByEngine, match="8 numbers"):
            await bench.service.embeddings.embed("echo", ["a"], ANYONE, request_id=RequestId("req_e"), dimensions=9)
        with pytest.raises(InvalidRequest, match="empty"):
            await bench.service.embeddings.embed("echo", ["a", ""], ANYONE, request_id=RequestId("req_e"))

    run(scenario=scenario)


def test_vectors_are_made_once_there_is_room_for_all_of_their_numbers() -> None:
    async def scenario(bench: Bench) -> None:
        async def room(num_bytes: int, within_s: float) -> None:
            assert within_s > 1
            asked.append(num_bytes)
            if len(asked) > 1:
                raise Overloaded("no room")

        asked: list[int] = []
        for texts in (["a", "b"], ["c"]):
            work = bench.service.embeddings.embed("echo", texts, ANYONE, request_id=RequestId("req_e"), room=room)
            if len(texts) > 1:
                assert len((await work).vectors) == 2
            else:
                with pytest.raises(Overloaded):
                    await work
        assert asked == [2 * (8 * NUMBER_BYTES + TOKEN_BYTES), 8 * NUMBER_BYTES + TOKEN_BYTES]

    run(scenario=scenario)


class SlowEmbedder(MemoryReplica):
    """Needs 0.1 s for a batch."""

    async def embed(self, batch: list[list[int]], *, tenant: str = "") -> list[list[float]]:
        await asyncio.sleep(0.1)
        return await super().embed(batch)


def test_embeddings_have_one_deadline_for_the_wait_and_the_run() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(DeadlineExceeded, match="vectors of 1 inputs"):
            await bench.service.embeddings.embed("echo", ["a"], ANYONE, request_id=RequestId("req_e"), deadline_s=0.02)
        first = asyncio.create_task(
            bench.service.embeddings.embed("echo", ["a"], ANYONE, request_id=RequestId("req_e"))
        )
        await asyncio.sleep(0.01)
        with pytest.raises(DeadlineExceeded, match="vectors"):  # 0.09 s of the wait are gone when the run begins
            await bench.service.embeddings.embed("echo", ["b"], ANYONE, request_id=RequestId("req_e"), deadline_s=0.15)
        assert len((await first).vectors) == 1
        assert bench.service.in_flight == 0

    run(SlowEmbedder(), scenario=scenario, admission=AdmissionSection(max_running=1))


def test_embeddings_wait_by_priority() -> None:
    async def scenario(bench: Bench) -> None:
        ended: list[str] = []

        async def embed(name: str, priority: int) -> None:
            await bench.service.embeddings.embed(
                "echo", [name], ANYONE, request_id=RequestId("req_e"), priority=priority
            )
            ended.append(name)

        tasks = []
        for name, priority in (("first", 0), ("low", 0), ("high", 5)):
            tasks.append(asyncio.create_task(embed(name, priority)))
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        assert ended == ["first", "high", "low"]

    run(SlowEmbedder(), scenario=scenario, admission=AdmissionSection(max_running=1))


def test_counted_tokens_are_those_that_generation_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_it(text: BytesText, messages: Sequence[Message], tools: object = (), **how: object) -> list[int]:
        return [token for message in messages for token in text.encode(message.content)]

    monkeypatch.setattr(BytesText, "knows_tools", False)
    monkeypatch.setattr(BytesText, "encode_chat", all_of_it)

    async def scenario(bench: Bench) -> None:
        request = ask("hi", tools=(ToolSpec(name="go", description="away"),), max_tokens=1)
        started = (await bench.answer(request))[0]
        assert isinstance(started, Started)
        assert await bench.service.tokens.count(request, ANYONE) == started.prompt_tokens > 100

    run(scenario=scenario)


def test_admission_limits_come_from_the_topology() -> None:
    async def scenario(bench: Bench) -> None:
        tasks = [asyncio.create_task(bench.answer(ask("0123456789"))) for _ in range(4)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(r).__name__ for r in results] == ["list", "list", "Overloaded", "Overloaded"]

    run(
        MemoryReplica(token_s=0.002),
        scenario=scenario,
        admission=AdmissionSection(max_running=1, max_waiting=1),
    )


def test_topology_survives_the_disk_and_names_what_is_wrong(tmp_path: Path) -> None:
    from ashore.core.errors import InvalidSpec
    from ashore.data.path import read_topology, write_topology

    path = tmp_path / "topology.json"
    topology = Bench().topology
    write_topology(topology, path)
    assert read_topology(path) == topology
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b'{"models":[],"htpp":{}}')
    with pytest.raises(InvalidSpec, match="htpp"):
        read_topology(path)
    twice = msgspec.structs.replace(topology, models=topology.models * 2)
    write_topology(twice, path)
    with pytest.raises(InvalidSpec, match="'echo'"):
        read_topology(path)
    with pytest.raises(InvalidSpec, match="No such file"):
        read_topology(tmp_path / "nothing")


def test_an_answer_that_cannot_be_so_long_is_refused_with_the_numbers() -> None:
    info = msgspec.structs.replace(ECHO_INFO, context_tokens=100)
    assert room_for_answer(info, 60, None, 40) == 40
    with pytest.raises(ContextTooLong, match=r"the prompt has 60 tokens and min_tokens is 41; .* 100 tokens") as caught:
        room_for_answer(info, 60, None, 41)
    assert caught.value.param == "min_tokens" and "at most 40" in caught.value.hint
    with pytest.raises(InvalidRequest, match="min_tokens is 9 and the answer may have at most 8"):
        room_for_answer(info, 60, 8, 9)
