"""When another alias answers: the rules over random chains, and the service with rights, privacy and budgets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from memory_replica import ECHO_INFO, MemoryReplica
from msgspec.structs import replace

from ashore.core import errors
from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, BudgetExceeded, HostDied, InvalidSpec, NotReady, Overloaded
from ashore.core.ids import RequestId, TenantId
from ashore.data.audit import RequestNote
from ashore.data.authority import Principal
from ashore.data.authority.authority import Decision
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs
from ashore.data.engines import Sampling
from ashore.data.path import (
    AdmissionSection,
    BytesText,
    CountingAuditor,
    Delta,
    DispatchSection,
    GenerationRequest,
    Guards,
    PrivacyMasker,
    Reservation,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
    Unlimited,
)
from ashore.data.path.fallback import PASSED_OVER, TRIGGERS, answer_or_fall_back
from ashore.data.path.section import AliasDispatch, FallbackStep, Trigger
from ashore.data.privacy import Privacy, PrivacyPolicy, PrivacyRoute
from ashore.kit.metrics import Metrics
from ashore.kit.section import read_section

ALICE = Principal(id="alice", tenant=TenantId("acme"), roles=frozenset({"developer"}))
CODES: Mapping[str, type[AshoreError]] = {
    one.code: one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, AshoreError) and one not in (AshoreError, errors.UserError)
}
ENDS = [code for code in CODES if code not in PASSED_OVER]


@dataclass
class World:
    """A random house: what each alias may, can and costs, and what happens when it is asked."""

    rng: random.Random
    names: list[str]
    rights: set[str]
    strict: set[str]
    rich: set[str]
    able: set[str]
    faults: dict[str, str]
    told: bool = False
    asked: list[tuple[str, Trigger | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refusal(self, to: str, on: Trigger) -> str:
        if to not in self.names:
            return "model_not_found"
        return "permission_denied" if to not in self.rights else "" if to in self.strict else "personal_data_blocked"

    async def attempt(self, alias: str, on: Trigger | None, may_fall_back: bool) -> str:
        self.asked.append((alias, on))
        if alias not in self.able:
            raise CODES["unsupported_by_engine"]
        if alias not in self.rich:
            raise CODES["budget_exceeded"]
        if code := self.faults[alias]:
            self.told = self.rng.random() < 0.1
            raise CODES[code]
        return alias


def now(coroutine: Coroutine[Any, Any, str]) -> str:
    """Run what never waits, without a loop."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return str(end.value.value)


def walk(rng: random.Random) -> int:
    names = [f"m{number}" for number in range(rng.randint(2, 6))]

    def some(share: float) -> set[str]:
        return {name for name in names if rng.random() < share}

    def fault() -> str:
        return rng.choice(("", "", rng.choice(list(TRIGGERS)), rng.choice(list(TRIGGERS)), rng.choice(ENDS)))

    world = World(rng, names, some(0.7), some(0.8), some(0.7), some(0.8), {name: fault() for name in names})
    asked = rng.choice(names)
    if rng.random() < 0.8:  # mostly, what was asked fails for what another may answer
        world.faults[asked] = rng.choice(list(TRIGGERS))
        world.rich.add(asked)
        world.able.add(asked)
    steps = [
        FallbackStep(to=to, on=tuple(rng.sample(("away", "busy", "too-long"), rng.randint(1, 3))))
        for to in rng.sample([*names, "gone"], rng.randint(0, len(names)))
    ]
    try:
        coroutine = answer_or_fall_back(
            asked, steps, world.attempt, refusal=world.refusal, told=lambda: world.told, note=world.notes.append
        )
        answered = ""
        try:
            coroutine.send(None)
        except StopIteration as end:
            answered = end.value
    except AshoreError as fault_seen:
        if not world.told:
            code = "unsupported_by_engine" if asked not in world.able else "budget_exceeded"
            own = code if asked not in world.able & world.rich else world.faults[asked]
            assert fault_seen.code == own, "the client sees what the asked alias failed with"
    tried = [alias for alias, _ in world.asked]
    assert tried[0] == asked and len(tried) == len(set(tried)) <= 1 + len(steps), "no cycle"
    by_name = {step.to: step for step in steps}
    for (before, _), (alias, on) in zip(world.asked, world.asked[1:], strict=False):
        assert alias in world.rights & world.strict, "a right or a mask was passed by"
        assert on is not None and on in by_name[alias].on
        code = world.faults[before] if before in world.able & world.rich else "budget_exceeded"
        assert code in PASSED_OVER, f"{code} went to another model"
        if before in world.able & world.rich:
            assert TRIGGERS[code] == on
    if answered and answered != asked:
        assert answered in world.rights & world.strict & world.rich & world.able
        assert TRIGGERS[world.faults[asked]] and any(note.startswith(f"{answered} on ") for note in world.notes)
    return len(tried) - 1


def test_random_chains_pass_by_no_right_budget_or_mask_and_have_no_cycle() -> None:
    rng = random.Random(36)
    assert sum(walk(rng) for _ in range(2_000)) > 500


@pytest.mark.full
def test_200_000_random_chains() -> None:
    rng = random.Random(2036)
    assert sum(walk(rng) for _ in range(200_000)) > 50_000


class Rights:
    """Lets a principal ask the named models."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def decide(self, principal: Principal, action: str, resource: str) -> Decision:
        allowed = resource.removeprefix("model/") in self.names
        return Decision(allowed=allowed, action=action, resource=resource, why="")

    def require(self, principal: Principal, action: str, resource: str) -> None:
        if not self.decide(principal, action, resource).allowed:
            raise errors.PermissionDenied(resource)

    def holds(self, principal: Principal, action: str) -> bool:
        return True


class Purse(Unlimited):
    """Budgets by alias; an empty one refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.spent: set[str] = set()
        self.asked: list[str] = []

    async def reserve(self, principal: Principal, alias: str, tokens: int, **more: Any) -> Reservation:
        self.asked.append(alias)
        if alias in self.spent:
            raise BudgetExceeded("no token is left")
        return await super().reserve(principal, alias, tokens, **more)


class Notes(CountingAuditor):
    """Keeps every note."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[RequestNote] = []

    def note(self, note: RequestNote) -> None:
        super().note(note)
        self.notes.append(note)


BIG, SMALL, TINY = "big", "small", "tiny"


class House:
    """Three models: `big`, and two that may answer for it."""

    def __init__(self, *steps: FallbackStep, routes: tuple[PrivacyRoute, ...] = (), **topology: Any) -> None:
        self.replicas = {
            BIG: MemoryReplica(),
            SMALL: MemoryReplica(),
            TINY: MemoryReplica(replace(ECHO_INFO, features=("temperature",))),
        }
        self.rights, self.purse, self.auditor, self.metrics = Rights({BIG, SMALL, TINY}), Purse(), Notes(), Metrics()
        privacy = Privacy(PrivacyPolicy(routes=routes), secret=b"k" * 32)
        clock = SystemClock()
        self.service = ServingService(
            Topology(
                models=tuple(
                    ServedModel(alias=name, release=f"{name}-1", kind="fake", sockets=(f"/s/{name}",), content=name)
                    for name in self.replicas
                ),
                dispatch=DispatchSection(aliases=(AliasDispatch(name=BIG, fallback=steps),)),
                **topology,
            ),
            make_replica=lambda socket: self.replicas[socket.rpartition("/")[2]],
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=self.metrics,
            cache=AnswerCache(CachePolicy(mode="exact"), secret=b"s" * 32, epochs=FixedEpochs(), clock=clock),
            guards=Guards(budgets=self.purse, masker=PrivacyMasker(privacy, self.metrics), auditor=self.auditor),
            authority=self.rights,
        )

    async def away(self, *names: str) -> None:
        """Take the hosts of models away for good."""
        for name in names:
            self.replicas[name].connect = never  # type: ignore[method-assign]
            self.replicas[name].die()
        for _ in range(400):
            if not any(card.ready for card in self.service.models() if card.alias in names):
                return
            await asyncio.sleep(0.005)

    async def ask(self, text: str = "hello", **fields: Any) -> tuple[Started, str]:
        fields = {"sampling": Sampling(temperature=0.0), **fields}
        request = GenerationRequest(
            request_id=RequestId("req_1"), model=BIG, messages=(Message(role="user", content=text),), **fields
        )
        events: list[ServingEvent] = []
        await self.service.answer(request, ALICE, events.append)
        assert isinstance(events[0], Started)
        return events[0], "".join(one.text for one in events if isinstance(one, Delta))


async def never(timeout_s: float) -> None:
    await asyncio.Event().wait()


def run(house: House, scenario: Callable[[], Any]) -> None:
    async def whole() -> None:
        await house.service.start()
        assert await house.service.connected(60)
        try:
            await scenario()
        finally:
            await house.service.close()

    asyncio.run(whole())


def step(to: str, *on: Trigger) -> FallbackStep:
    return FallbackStep(to=to, on=on or ("away",))


def test_another_alias_answers_for_one_that_is_away_and_everything_says_so() -> None:
    house = House(step(SMALL))

    async def scenario() -> None:
        started, _ = await house.ask()
        assert (started.fallback, started.release) == ("", "big-1")
        await house.away(BIG)
        started, text = await house.ask("who is there?")
        assert (started.model, started.release, started.fallback) == (BIG, "small-1", "small; on=away")
        assert "who is there?" in text
        assert house.purse.asked[-1] == SMALL, "the budget of the alias that answers is charged"
        note = house.auditor.notes[-1]
        assert (note.alias, note.release, note.fallback) == (BIG, "small-1", "small on away")
        assert house.metrics.value("ashore_fallbacks", BIG, SMALL, "away") == 1

        again, _ = await house.ask("who is there?")
        assert again.cache == "hit-exact" and again.fallback and not again.good_until_s, "no finished response of big"
        house.replicas[BIG] = MemoryReplica()

    run(house, scenario)


def test_an_answer_of_another_alias_is_not_cached_for_the_one_that_was_asked() -> None:
    house = House(step(SMALL))

    async def scenario() -> None:
        connect = house.replicas[BIG].connect
        await house.away(BIG)
        await house.ask("who?")
        assert house.service.cache.stats().entries == 1
        house.replicas[BIG] = back = MemoryReplica()
        assert connect is not None and back is not None
        await house.service.apply(replace(house.service._roster.topology, models=_with_socket(house, "/t/big")))
        assert await house.service.connected(60)
        started, _ = await house.ask("who?")
        assert (started.cache, started.release, started.fallback) == ("miss", "big-1", "")

    run(house, scenario)


def _with_socket(house: House, socket: str) -> tuple[ServedModel, ...]:
    models = house.service._roster.topology.models
    return tuple(replace(one, sockets=(socket,)) if one.alias == BIG else one for one in models)


@pytest.mark.parametrize(
    ("what", "why"),
    [("right", "permission_denied"), ("budget", "budget_exceeded"), ("feature", "unsupported_by_engine")],
)
def test_a_step_without_right_budget_or_feature_is_passed_over(what: str, why: str) -> None:
    first = TINY if what == "feature" else SMALL
    second = SMALL if what == "feature" else TINY
    house = House(step(first), step(second))

    async def scenario() -> None:
        await house.away(BIG)
        if what == "right":
            house.rights.names.discard(first)
        if what == "budget":
            house.purse.spent.add(first)
        started, _ = await house.ask(**({"top_logprobs": 1} if what == "feature" else {}))
        assert started.release == f"{second}-1"
        assert why in house.auditor.notes[-1].fallback
        house.purse.spent.add(second)
        with pytest.raises(NotReady):
            await house.ask("and now?", **({"top_logprobs": 1} if what == "feature" else {}))
        assert not house.replicas[first].orders

    run(house, scenario)


def test_a_step_with_weaker_privacy_is_passed_over_and_its_own_rules_mask() -> None:
    house = House(
        step(SMALL),
        step(TINY),
        routes=(
            PrivacyRoute(alias=BIG, prompts={"email": "mask"}),
            PrivacyRoute(alias=SMALL, prompts={"email": "pseudonymise"}),
            PrivacyRoute(alias=TINY, prompts={"phone": "block", "email": "mask"}),
        ),
    )

    async def scenario() -> None:
        await house.away(BIG)
        started, text = await house.ask("write to a@b.example")
        assert (started.release, started.masked) == ("tiny-1", {"email": 1})
        assert "a@b.example" in text and not house.replicas[SMALL].orders
        [order] = house.replicas[TINY].orders
        assert b"a@b.example" not in bytes(one for one in order.prompt_ids if one < 256)
        with pytest.raises(NotReady):  # the stricter rules block it: nobody else is asked
            await house.ask("call 13800138000")
        assert "personal_data_blocked" in house.auditor.notes[-1].fallback

    run(house, scenario)


def test_what_is_blocked_is_asked_of_nobody_else() -> None:
    house = House(step(SMALL, "away", "busy", "too-long"), routes=(PrivacyRoute(prompts={"phone": "block"}),))

    async def scenario() -> None:
        with pytest.raises(errors.PersonalDataBlocked):
            await house.ask("call 13800138000")
        assert not house.replicas[SMALL].orders

    run(house, scenario)


def test_nothing_follows_the_first_piece() -> None:
    house = House(step(SMALL))
    house.replicas[BIG] = MemoryReplica(die_after=3)

    async def scenario() -> None:
        with pytest.raises(HostDied):
            await house.ask("a long answer that breaks off")
        assert not house.replicas[SMALL].orders and not house.auditor.notes[-1].fallback

    run(house, scenario)


def test_a_client_may_refuse_and_embeddings_never_fall_back() -> None:
    house = House(step(SMALL), admission=AdmissionSection(default_deadline_s=0.3))

    async def scenario() -> None:
        await house.away(BIG)
        with pytest.raises(AshoreError):
            await house.ask(fallback=False)
        with pytest.raises(AshoreError):
            await house.service.embeddings.embed(BIG, ["text"], ALICE, request_id=RequestId("r"), deadline_s=0.2)
        assert not house.replicas[SMALL].orders

    run(house, scenario)


def test_a_prompt_too_long_for_one_goes_to_one_that_holds_it() -> None:
    house = House(step(TINY, "away", "busy"), step(SMALL, "too-long"))
    house.replicas[BIG] = MemoryReplica(replace(ECHO_INFO, context_tokens=64))

    async def scenario() -> None:
        started, _ = await house.ask("x" * 200)
        assert (started.release, started.fallback) == ("small-1", "small; on=too-long")

    run(house, scenario)


def test_a_full_queue_falls_back_to_one_with_room_alone() -> None:
    house = House(step(SMALL, "busy"), admission=AdmissionSection(max_running=1, max_waiting=1))
    for name in (BIG, SMALL):
        house.replicas[name] = MemoryReplica(token_s=0.05)

    async def scenario() -> None:
        asked = [asyncio.create_task(house.ask(f"{n} of six")) for n in range(6)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        by = [one[0].release if isinstance(one, tuple) else type(one) for one in ended]
        assert (
            by.count("big-1") == 2
            and 1 <= by.count("small-1") <= 2
            and by.count(Overloaded) == 6 - 2 - by.count("small-1")
        )
        assert any("overloaded" in note.fallback for note in house.auditor.notes)

    run(house, scenario)


def test_a_revoked_right_to_the_alias_that_answers_ends_the_answer() -> None:
    house = House(step(SMALL))
    house.replicas[SMALL] = MemoryReplica(token_s=0.05)

    async def scenario() -> None:
        await house.away(BIG)
        asking = asyncio.create_task(house.ask("a slow answer"))
        while not house.replicas[SMALL].orders:
            await asyncio.sleep(0.01)
        house.rights.names.discard(SMALL)
        house.service.reception.end_revoked()
        with pytest.raises(errors.PermissionDenied):
            await asking

    run(house, scenario)


def test_an_outage_stalls_no_more_requests_than_those_of_its_beginning() -> None:
    house = House(step(SMALL))

    async def scenario() -> None:
        await house.away(BIG)
        await house.ask("first")
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        await asyncio.gather(*(house.ask(f"number {n}") for n in range(30)))
        assert loop.time() - began_at < 2 * 30, "each would wait two seconds"
        assert house.service._roster.lead(BIG).first.replicas.away_s >= 2

    run(house, scenario)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "a", "fallback": []}, "0 steps"),
        ({"name": "a", "fallback": [{"to": "a"}]}, "twice"),
        ({"name": "a", "fallback": [{"to": "b"}, {"to": "b", "on": ["busy"]}]}, "twice"),
        ({"name": "a", "fallback": [{"to": "b", "on": []}]}, "empty"),
        ({"name": "a", "fallback": [{"to": "b", "on": ["moderation"]}]}, "moderation"),
    ],
)
def test_steps_that_make_no_sense_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        read_section(AliasDispatch, values, "ashore.toml [dispatch]")


def test_rules_compare_kind_by_kind() -> None:
    privacy = Privacy(
        PrivacyPolicy(
            routes=(PrivacyRoute(alias="a", answers={"email": "mask"}), PrivacyRoute(alias="n", label="notice"))
        ),
        secret=b"k" * 32,
    )
    a, b, n = (privacy.rules("t", name) for name in "abn")
    assert a.is_as_strict_as(b) and not b.is_as_strict_as(a) and a.is_as_strict_as(a)
    assert n.is_as_strict_as(b) and not b.is_as_strict_as(n)
