"""Budgets on the request path: what is set aside, charged, given back and refused, whatever becomes of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from memory_replica import MemoryReplica
from scratch import a_ledger, usages

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, BudgetExceeded
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import OpenDoor, Principal
from ashore.data.authority.budgets import BudgetRule, LedgerBudgets, Usage
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs
from ashore.data.engines import Sampling
from ashore.data.http.errors import error_headers
from ashore.data.path import (
    BytesText,
    ChoiceEnded,
    Delta,
    GenerationRequest,
    Guards,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
)
from ashore.data.path import Usage as AnswerUsage
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import MemoryRecorder

ALICE = OpenDoor().authenticate(None)
BOB = Principal(id="bob", kind=ALICE.kind, tenant=ALICE.tenant, roles=ALICE.roles)
CAROL = Principal(id="carol", kind=ALICE.kind, tenant=TenantId("elsewhere"), roles=ALICE.roles)


def ask(text: str = "hello", *, most: int | None = 50, temperature: float = 0.0, **fields: object) -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId("req_1"),
        model="echo",
        messages=(Message(role="user", content=text),),
        max_tokens=most,
        sampling=Sampling(temperature=temperature),
        **fields,  # type: ignore[arg-type]
    )


class Bench:
    """A service over one replica, under budgets."""

    def __init__(
        self, *rules: BudgetRule, token_s: float = 0.0, hits_cost_tokens: bool = False, die_after: int | None = None
    ) -> None:
        clock = SystemClock()
        self.recorder = MemoryRecorder()
        self.ledger = a_ledger(clock)
        self.replica = MemoryReplica(token_s=token_s, die_after=die_after)
        self.budgets = LedgerBudgets(self.ledger, self.recorder, rules=rules, hits_cost_tokens=hits_cost_tokens)
        cache = AnswerCache(CachePolicy(mode="exact"), secret=b"s" * 32, epochs=FixedEpochs(), clock=clock)
        self.service = ServingService(
            Topology(models=(ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s/0",)),)),
            make_replica=lambda socket: self.replica,
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=Metrics(),
            cache=cache,
            guards=Guards(budgets=self.budgets),
        )

    async def answer(self, request: GenerationRequest, who: Principal = ALICE) -> list[ServingEvent]:
        return [event async for event in self.service.generate(request, who)]

    def left(self, part: str = "tokens", who: Principal = ALICE) -> int:
        standing = self.budgets.standing(who, "echo")
        assert standing is not None
        quota = getattr(standing, part)
        return int(quota.left)

    @property
    def usage(self) -> Usage:
        (one,) = usages(self.ledger)
        return one


def run(scenario: Callable[[Bench], Awaitable[None]], bench: Bench) -> None:
    async def whole() -> None:
        await bench.service.start()
        while not all(card.ready for card in bench.service.models()):
            await asyncio.sleep(0.001)
        try:
            await scenario(bench)
        finally:
            await bench.service.close()

    asyncio.run(whole())


def tokens(cap: int, **who: str) -> BudgetRule:
    return BudgetRule(kind="tokens", window="total", cap=cap, **who)  # type: ignore[arg-type]


def requests(cap: int, **who: str) -> BudgetRule:
    return BudgetRule(kind="requests", window="total", cap=cap, **who)  # type: ignore[arg-type]


def at_once(cap: int, **who: str) -> BudgetRule:
    return BudgetRule(kind="concurrency", window="now", cap=cap, **who)  # type: ignore[arg-type]


def test_what_was_used_is_charged_and_the_rest_given_back() -> None:
    async def scenario(bench: Bench) -> None:
        events = await bench.answer(ask())
        usage = events[-1]
        assert isinstance(usage, AnswerUsage)
        assert bench.left() == 1000 - usage.prompt_tokens - usage.completion_tokens
        assert bench.left("requests") == 9
        assert (bench.usage.requests, bench.usage.completion_tokens) == (1, usage.completion_tokens)

    run(scenario, Bench(tokens(1000), requests(10)))


def test_while_it_runs_all_that_it_may_cost_is_set_aside_and_told() -> None:
    async def scenario(bench: Bench) -> None:
        events = bench.service.generate(ask("hello", most=100), ALICE)
        started = await anext(events)
        assert isinstance(started, Started) and started.standing is not None and started.standing.tokens is not None
        assert started.standing.tokens.left == 1000 - started.prompt_tokens - 100
        await events.aclose()

    run(scenario, Bench(tokens(1000), token_s=0.01))


def test_a_request_that_does_not_fit_reaches_no_engine_and_is_recorded() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(BudgetExceeded, match="20 tokens in total"):
            await bench.answer(ask(most=50))
        assert not bench.replica.orders
        (act,) = bench.recorder.acts
        assert (act.action, act.actor, act.outcome, act.request_id) == ("budget:refuse", ALICE.id, "denied", "req_1")
        assert (bench.usage.refused, bench.usage.requests) == (1, 0)
        assert bench.left() == 20

    run(scenario, Bench(tokens(20)))


def test_an_answer_is_shortened_to_what_is_left_and_says_so() -> None:
    async def scenario(bench: Bench) -> None:
        *pieces, ended, usage = await bench.answer(ask("x" * 60, most=None))
        assert ended == ChoiceEnded(choice=0, reason="length", cut_by="budget")
        assert usage == AnswerUsage(prompt_tokens=60, cached_tokens=0, completion_tokens=40)
        assert sum(len(piece.text) for piece in pieces if isinstance(piece, Delta)) == 40
        assert bench.left() == 0
        assert not [act for act in bench.recorder.acts if act.action == "budget:refuse"]

    run(scenario, Bench(tokens(100), tokens(500, user=ALICE.id)))


def test_an_answer_that_fits_what_is_left_ends_by_itself() -> None:
    async def scenario(bench: Bench) -> None:
        *_, ended, _ = await bench.answer(ask("hi", most=None))
        assert ended == ChoiceEnded(choice=0, reason="stop")
        assert bench.left() == 96

    run(scenario, Bench(tokens(100)))


def test_choices_share_what_is_left() -> None:
    async def scenario(bench: Bench) -> None:
        events = await bench.answer(ask("x" * 40, most=None, num_choices=2))
        assert [order.max_new_tokens for order in bench.replica.orders] == [30, 30]
        assert [event.cut_by for event in events if isinstance(event, ChoiceEnded)] == ["budget", "budget"]
        assert bench.left() == 0

    run(scenario, Bench(tokens(100)))


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused_by_what_it_needs() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(BudgetExceeded, match="100 are left and this request needs 106") as caught:
            await bench.answer(ask("x" * 90, most=None))
        assert "send a shorter prompt" in caught.value.hint
        assert (b"x-should-retry", b"false") in error_headers(caught.value)
        assert not bench.replica.orders
        assert bench.left() == 100

    run(scenario, Bench(tokens(100)))


def test_a_refusal_that_a_wait_mends_may_be_sent_again() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask("x" * 40, most=None))
        with pytest.raises(BudgetExceeded) as caught:
            await bench.answer(ask("y" * 40, most=None))
        assert b"x-should-retry" not in dict(error_headers(caught.value))

    run(scenario, Bench(BudgetRule(kind="tokens", window="month", cap=100)))


def test_many_at_once_never_have_more_than_the_budget() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [ask(f"{number:02}" * 10, most=None, temperature=1.0) for number in range(20)]
        results = await asyncio.gather(*map(bench.answer, asked), return_exceptions=True)
        told = [result[-1] for result in results if isinstance(result, list)]
        used = sum(one.prompt_tokens + one.completion_tokens for one in told if isinstance(one, AnswerUsage))
        assert 0 < used <= 500
        assert bench.left() == 500 - used
        assert all(isinstance(result, list | BudgetExceeded) for result in results)

    run(scenario, Bench(tokens(500), token_s=0.001))


@pytest.mark.parametrize("hits_cost_tokens", [False, True])
def test_nobody_gets_an_answer_that_somebody_elses_budget_shortened(hits_cost_tokens: bool) -> None:
    async def scenario(bench: Bench) -> None:
        poor, rich = await asyncio.gather(
            bench.answer(ask("x" * 60, most=None), BOB), bench.answer(ask("x" * 60, most=None))
        )
        assert (poor[-2].reason, poor[-2].cut_by) == ("length", "budget")  # type: ignore[union-attr]
        assert rich[-2] == ChoiceEnded(choice=0, reason="stop")
        again = await bench.answer(ask("x" * 60, most=None))
        assert again[-2] == rich[-2], "what was shortened is not kept"

    run(scenario, Bench(tokens(100, user="bob"), token_s=0.001, hits_cost_tokens=hits_cost_tokens))


def test_who_leaves_in_the_middle_pays_for_what_was_made() -> None:
    async def scenario(bench: Bench) -> None:
        events = bench.service.generate(ask("hello world, hello again", temperature=1.0), ALICE)
        async for event in events:
            if not isinstance(event, Started):
                break
        await events.aclose()
        used = 1000 - bench.left()
        assert 24 < used < 74
        assert bench.left("requests") == 9

    run(scenario, Bench(tokens(1000), requests(10), token_s=0.01))


def test_a_kept_answer_costs_a_request_and_no_tokens() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask())
        left = bench.left()
        await bench.answer(ask())
        assert (bench.left(), bench.left("requests")) == (left, 0)
        assert (bench.usage.requests, bench.usage.hits) == (2, 1)
        with pytest.raises(BudgetExceeded):
            await bench.answer(ask())

    run(scenario, Bench(tokens(1000), requests(2)))


def test_where_hits_are_charged_a_kept_answer_costs_what_it_cost_before() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask())
        cost = 1000 - bench.left()
        await bench.answer(ask())
        assert bench.left() == 1000 - 2 * cost

    run(scenario, Bench(tokens(1000), hits_cost_tokens=True))


def test_who_shares_a_generation_pays_a_request_and_who_began_it_the_tokens() -> None:
    async def scenario(bench: Bench) -> None:
        await asyncio.gather(bench.answer(ask()), bench.answer(ask(), BOB), bench.answer(ask(), BOB))
        assert len(bench.replica.orders) == 1
        assert bench.left(who=BOB) == 1000 and bench.left(who=ALICE) < 1000
        assert bench.left("requests", BOB) == 8
        assert {one.user: (one.requests, one.hits) for one in usages(bench.ledger)} == {
            ALICE.id: (1, 0),
            "bob": (2, 2),
        }

    run(scenario, Bench(tokens(1000, user="*"), requests(10, user="*"), token_s=0.01))


def test_who_shares_is_not_refused_for_the_budget_of_who_began() -> None:
    """The one that is refused must not take down those who came aboard; and they count once."""

    async def scenario(bench: Bench) -> None:
        first, second = await asyncio.gather(
            bench.answer(ask(most=60)), bench.answer(ask(most=60), BOB), return_exceptions=True
        )
        assert isinstance(first, BudgetExceeded)
        assert isinstance(second, list) and isinstance(second[-1], AnswerUsage)
        assert bench.left("requests", BOB) == 9
        assert bench.left(who=BOB) == 1000 - second[-1].prompt_tokens - second[-1].completion_tokens

    run(
        scenario,
        Bench(tokens(20, user=ALICE.id), tokens(1000, user="bob"), requests(10, user="*"), at_once(1, user="*")),
    )


def test_concurrency_is_freed_when_a_client_goes_though_others_still_read() -> None:
    async def scenario(bench: Bench) -> None:
        pilot = bench.service.generate(ask("a long question to answer"), ALICE)
        await anext(pilot)
        rider = bench.service.generate(ask("a long question to answer"), BOB)
        await anext(rider)
        with pytest.raises(BudgetExceeded, match="1 requests at once"):
            await bench.answer(ask("another"))
        await pilot.aclose()
        assert isinstance((await bench.answer(ask("another")))[-1], AnswerUsage)
        assert [type(event) async for event in rider][-1] is AnswerUsage
        await bench.answer(ask("another", temperature=0.9))

    run(scenario, Bench(at_once(1, user="*"), token_s=0.02))


def test_a_failure_of_ours_before_the_first_token_costs_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(AshoreError):
            await bench.answer(ask(deadline_s=0.5))
        assert (bench.left(), bench.left("requests")) == (1000, 10)

    run(scenario, Bench(tokens(1000), requests(10), die_after=0))


def test_embeddings_and_counts_are_under_budgets_too() -> None:
    async def scenario(bench: Bench) -> None:
        embedding = await bench.service.embeddings.embed("echo", ["abc"], ALICE, request_id=RequestId("r"))
        assert bench.left() == 10 - embedding.prompt_tokens
        with pytest.raises(BudgetExceeded):
            await bench.service.embeddings.embed("echo", ["abc" * 5], ALICE, request_id=RequestId("r"))
        await bench.service.tokens.count(ask(), ALICE)
        with pytest.raises(BudgetExceeded):
            await bench.service.tokens.count(ask(), ALICE)

    run(scenario, Bench(tokens(10), requests(2)))


def test_budgets_of_others_do_not_matter() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask(), CAROL)
        assert bench.budgets.standing(CAROL, "echo") is None
        with pytest.raises(BudgetExceeded):
            await bench.answer(ask(), BOB)

    run(scenario, Bench(requests(0, tenant=str(ALICE.tenant))))


def test_other_rules_hold_for_the_next_request() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.answer(ask())
        bench.budgets.take([requests(1)])
        with pytest.raises(BudgetExceeded):
            await bench.answer(ask())
        bench.budgets.take([])
        await bench.answer(ask())

    run(scenario, Bench(requests(5)))
