"""An alias that somebody made of releases of another model: what is bound to that model holds for the alias too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from memory_replica import MemoryReplica
from msgspec import structs
from scratch import a_ledger

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import BudgetExceeded, PermissionDenied
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import KeyScope, PolicyAuthority, Principal
from ashore.data.authority.budgets import BudgetRule, LedgerBudgets
from ashore.data.authority.policy import Binding, Policy, Role, parse_rule
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs, RoutePolicy
from ashore.data.engines import Sampling
from ashore.data.path import BytesText, GenerationRequest, Guards, ServedModel, ServingService, Started, Topology
from ashore.data.path.masking import PrivacyMasker
from ashore.data.privacy import Privacy, PrivacyPolicy, PrivacyRoute
from ashore.data.releases import AliasRoute
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import MemoryRecorder

ALICE = Principal(id="alice", tenant=TenantId("acme"), roles=frozenset({"developer"}))
MAIL = "bob@example.com"
ROUTES = {
    "chat": AliasRoute(weights=(("chat-1", 1000),)),
    "other": AliasRoute(weights=(("other-1", 1000),)),
    "mine": AliasRoute(weights=(("chat-1", 1000),)),
    "both": AliasRoute(weights=(("chat-1", 500), ("other-1", 500))),
}


class Bench:
    """A service over the models `chat` and `other`, with the alias `mine` to `chat` and `both` to both."""

    def __init__(
        self, *, policy: Policy | None = None, privacy: PrivacyPolicy | None = None, rules: tuple[BudgetRule, ...] = (),
        kept: tuple[RoutePolicy, ...] = (),
    ) -> None:  # fmt: skip
        clock, metrics = SystemClock(), Metrics()
        self.replicas = {"chat": MemoryReplica(), "other": MemoryReplica(), "canary": MemoryReplica()}

        def behind(name: str) -> tuple[str, ...]:
            return self.service.behind(name)

        self.masker = PrivacyMasker(Privacy(privacy or PrivacyPolicy(), secret=b"s" * 32), metrics, behind)
        self.budgets = LedgerBudgets(a_ledger(clock), MemoryRecorder(), rules=rules, behind=behind)
        kept_by = CachePolicy(mode="exact", routes=kept)
        models = tuple(served(alias, "1") for alias in ("chat", "other"))
        self.topology = Topology(models=models, cache=kept_by)
        self.service = ServingService(
            self.topology,
            make_replica=lambda socket: self.replicas[socket.rpartition("/")[2]],
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=metrics,
            cache=AnswerCache(
                kept_by, secret=b"c" * 32, epochs=FixedEpochs(), clock=clock, behind=behind,
            ),
            authority=PolicyAuthority(policy),
            guards=Guards(masker=self.masker, budgets=self.budgets),
        )  # fmt: skip

    async def ask(self, model: str, who: Principal = ALICE, text: str = "hello") -> Started:
        request = GenerationRequest(
            request_id=RequestId("r"), model=model, messages=(Message(role="user", content=text),), max_tokens=50,
            sampling=Sampling(temperature=0.0), deadline_s=10.0,
        )  # fmt: skip
        events = [event async for event in self.service.generate(request, who)]
        return next(event for event in events if isinstance(event, Started))


def served(alias: str, number: str, socket: str = "", *adapters: str) -> ServedModel:
    return ServedModel(
        alias=alias, release=f"{alias}-{number}", kind="fake", sockets=(f"/s/{socket or alias}",), adapters=adapters
    )


def run(scenario: Callable[[Bench], Awaitable[None]], bench: Bench) -> None:
    async def whole() -> None:
        await bench.service.start()
        await bench.service.connected(5)
        bench.service.take_routes(ROUTES)
        try:
            await scenario(bench)
        finally:
            await bench.service.close()

    asyncio.run(whole())


@pytest.mark.parametrize("why", ["narrowed key", "role", "deny"])
def test_an_alias_opens_no_model_that_may_not_be_asked_by_its_own_name(why: str) -> None:
    who, policy = ALICE, None
    if why == "narrowed key":
        who = Principal(
            id="alice", tenant=TenantId("acme"), roles=ALICE.roles, scope=KeyScope(models=("mine", "both", "other"))
        )
    elif why == "role":
        who = Principal(id="alice", tenant=TenantId("acme"))
        rules = tuple(parse_rule(f"infer on model/{name}") for name in ("mine", "both", "other"))
        policy = Policy(roles=(Role(name="r", rules=rules),), bindings=(Binding("user/alice", "r"),))
    else:
        deny = Role(name="r", rules=(parse_rule("deny infer on model/chat"),))
        policy = Policy(roles=(deny,), bindings=(Binding("user/alice", "r"),))

    async def scenario(bench: Bench) -> None:
        for name in ("chat", "mine", "both"):
            with pytest.raises(PermissionDenied) as refused:
                await bench.ask(name, who)
            assert refused.value.resource == "model/chat"
        assert (await bench.ask("other", who)).release == "other-1"
        assert [card.alias for card in bench.service.models(who)] == ["other"]
        assert [card.alias for card in bench.service.models(ALICE)] == (
            ["other"] if why == "deny" else ["chat", "other", "mine", "both"]
        )

    run(scenario, Bench(policy=policy))


def test_a_model_is_masked_by_its_own_route_under_an_alias_unless_the_alias_has_one() -> None:
    privacy = PrivacyPolicy(
        prompts={"email": "mask"},
        routes=(
            PrivacyRoute(alias="chat", prompts={"email": "allow"}),
            PrivacyRoute(alias="both", prompts={"email": "mask"}),
        ),
    )

    async def scenario(bench: Bench) -> None:
        for name, is_seen in (("chat", True), ("mine", True), ("other", False), ("both", False)):
            orders = [len(replica.orders) for replica in bench.replicas.values()]
            await bench.ask(name, text=f"{name} {MAIL}")
            (order,) = [
                one.orders[-1]
                for one, before in zip(bench.replicas.values(), orders, strict=True)
                if len(one.orders) > before
            ]
            assert (MAIL in bytes(order.prompt_ids).decode()) is is_seen, name

    run(scenario, Bench(privacy=privacy))


def test_an_alias_draws_on_the_budgets_of_the_model_behind_it() -> None:
    rules = (
        BudgetRule(kind="requests", window="total", cap=2, model="chat"),
        BudgetRule(kind="requests", window="total", cap=3, model="*", user="*"),
    )

    async def scenario(bench: Bench) -> None:
        await bench.ask("mine", text="1")
        await bench.ask("chat", text="2")
        for name in ("mine", "chat", "both"):
            with pytest.raises(BudgetExceeded):
                await bench.ask(name, text="3")
        await bench.ask("other", text="4")

    run(scenario, Bench(rules=rules))


def test_what_is_not_kept_of_a_model_is_not_kept_under_an_alias_of_it() -> None:
    async def scenario(bench: Bench) -> None:
        for name, found in (("mine", "miss"), ("chat", "miss"), ("other", "hit-exact")):
            await bench.ask(name, text="again")
            assert (await bench.ask(name, text="again")).cache == found, name

    run(scenario, Bench(kept=(RoutePolicy(alias="chat", mode="off"),)))


def test_an_adapter_answers_under_its_name_while_a_heavier_canary_lacks_it() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.service.apply(
            structs.replace(
                bench.topology,
                models=(served("chat", "1", "", "tone"), bench.topology.models[1]),
                beside=(served("chat", "2", "canary"),),
            )
        )
        await bench.service.connected(5)
        weights = (("chat-1", 200), ("chat-2", 800))
        bench.service.take_routes({**ROUTES, "chat": AliasRoute(weights=weights, live="chat-1")})
        assert (await bench.ask("chat:tone")).release == "chat-1"
        denied = Principal(id="alice", tenant=TenantId("acme"), roles=ALICE.roles, scope=KeyScope(models=("mine*",)))
        with pytest.raises(PermissionDenied, match="model/chat:tone"):
            await bench.ask("mine:tone", denied)

    run(scenario, Bench())
