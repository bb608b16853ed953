"""The use cases of releases on every database: made, rolled out, promoted, taken back; two operators at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from postgres_server import fresh_database

from ashore.access import (
    SYSTEM,
    AccountWish,
    Actor,
    Acts,
    KeyScope,
    KeyWish,
    People,
    PolicyBook,
    Principal,
    Role,
    parse_rule,
)
from ashore.core import ManualClock, MemoryRecorder, TenantId
from ashore.engines import EngineOptions
from ashore.errors import AshoreError, Conflict, InvalidRequest, MemoryFull, NotFound, PermissionDenied
from ashore.planning import Inventory, ModelPlan, Plan
from ashore.releases import (
    BY_NAME,
    EVERYTHING,
    Count,
    Given,
    GivenLevel,
    Pair,
    ReleaseKeeper,
    ReleaseOffice,
    ReleasePolicy,
    ReleaseWish,
    Slo,
    Tally,
    Way,
    observed,
    pair_id_of,
    routes_of,
    step_slice,
)
from ashore.releases.given import FORGOTTEN_S
from ashore.releases.memory import MemoryWorkshop
from ashore.releases.ports import GateVerdict
from ashore.state import Database, execute, open_state, read_epochs

GIB = 1 << 30
_names = itertools.count()


class Gate:
    def verdict(self, reference: str, *, digest: str = "") -> GateVerdict:
        if "new" in reference:
            return GateVerdict(outcome="")
        bad = "bad" in reference
        return GateVerdict(outcome="failed" if bad else "passed", why="perplexity +40 %" if bad else "")


@dataclass
class House:
    database: Database
    clock: ManualClock
    recorder: MemoryRecorder
    workshop: MemoryWorkshop

    def __post_init__(self) -> None:
        self.acts = Acts(self.database, self.recorder, self.clock)
        self.policy = ReleasePolicy()
        self.office = ReleaseOffice(self.acts, self.workshop, Gate(), policy=lambda: self.policy)
        self.keeper = ReleaseKeeper(self.acts, self.workshop)

    def plan(self, *models: str) -> Plan:
        """Return a plan of fakes, `alias=model`."""
        plans = tuple(
            ModelPlan(
                alias=one.partition("=")[0],
                release="",
                name=one.partition("=")[2],
                variant="",
                options=EngineOptions(kind="fake"),
                replicas=1,
                embedder=False,
                in_store=True,
            )
            for one in models
        )
        return Plan(models=plans, inventory=Inventory(cores=2, memory_bytes=0))

    def adopt(self, *models: str) -> tuple[str, ...]:
        """Adopt a plan; return what was forgotten."""
        return self.keeper.adopt(self.keeper.propose(self.plan(*models)))

    def up(self, *models: str, replaced: tuple[str, ...] = ()) -> dict[str, str]:
        """Adopt a plan; return what answers by alias."""
        plan = self.keeper.propose(self.plan(*models), replaced=replaced)
        self.keeper.adopt(plan)
        return {model.alias: model.release for model in plan.models}

    def make(self, model: str = "fake:random", **more: str) -> str:
        return self.office.create(SYSTEM, ReleaseWish(model=model, alias="chat"), **more).release.name

    def send(self, name: str, goal: str, **more: object) -> str:
        """Roll out, and say that the hosts have loaded. What goes live does so without a verdict."""
        override = "a trial" if goal == "live" else ""
        self.office.roll_out(SYSTEM, name, Way(goal=goal, **more), override=override)  # type: ignore[arg-type]
        self.keeper.warmed(name)
        return self.state(name)

    def state(self, name: str) -> str:
        return self.office.standing(SYSTEM, name).course.state

    def weights(self, alias: str = "chat") -> dict[str, int]:
        return dict(self.office.alias(SYSTEM, alias).weights)

    def epoch(self) -> int:
        with self.database.read() as connection:
            return read_epochs(connection).get("aliases", 0)


@pytest.fixture(params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    clock = ManualClock(now_s=1_000_000.0)
    url = ""
    if request.param == "postgres":
        url = fresh_database(request.getfixturevalue("postgres_url"), f"releases_{next(_names)}")
    database = open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=clock)
    try:
        yield House(
            database, clock, MemoryRecorder(), MemoryWorkshop(needed={"big": 4 * GIB, "bad": 0, "good": 0, "new": 0})
        )
    finally:
        database.close()


def test_up_makes_a_release_and_an_alias_once(house: House) -> None:
    assert house.up("chat=fake:echo", "embed=fake:random") == {"chat": "chat-1", "embed": "embed-1"}
    assert house.up("chat=fake:echo", "embed=fake:random") == {"chat": "chat-1", "embed": "embed-1"}
    assert house.weights() == {"chat-1": 1000} and house.state("chat-1") == "live"


def test_a_restart_undoes_no_promotion_and_another_file_does(house: House) -> None:
    house.up("chat=fake:echo")
    assert house.send(house.make(), "live") == "live"
    assert house.up("chat=fake:echo") == {"chat": "chat-2"}
    assert house.up("chat=fake:echo?tok_per_s=9") == {"chat": "chat-3"}
    assert house.state("chat-2") == "retired" and house.weights() == {"chat-3": 1000}
    assert house.up("chat=fake:echo?tok_per_s=9", replaced=("chat",)) == {"chat": "chat-4"}


def test_from_created_to_live_and_back(house: House) -> None:
    house.up("chat=fake:echo")
    name = house.make()
    assert (name, house.state(name)) == ("chat-2", "created")
    house.office.roll_out(SYSTEM, name, Way(goal="shadow", share=100))
    assert house.state(name) == "warming"
    assert [one.plan.release for one in house.keeper.wanted({"chat"})] == ["chat-1", "chat-2"]
    before = house.epoch()
    house.keeper.warmed(name)
    assert house.state(name) == "shadow" and house.weights() == {"chat-1": 1000} and house.epoch() > before
    assert house.send(name, "canary", share=50, steps=(200,), step_s=60) == "canary"
    assert house.weights() == {"chat-1": 950, "chat-2": 50}
    assert house.send(name, "live", standby_s=600) == "live"
    assert house.weights() == {"chat-2": 1000} and house.state("chat-1") == "standby"
    house.office.roll_back(SYSTEM, "chat", why="users complain")
    assert house.weights() == {"chat-1": 1000}
    assert (house.state("chat-1"), house.state("chat-2")) == ("live", "standby")
    told = house.office.history(SYSTEM, alias="chat")
    assert [event.verb for event in reversed(told)] == [
        "create", "promote", "create", "warm", "shadow", "canary", "promote", "standby", "rollback", "standby",
    ]  # fmt: skip
    assert told[1].why == "users complain"


def test_an_end_of_a_candidate_leaves_the_live_one_all(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "canary", share=300)
    house.office.roll_back(SYSTEM, "chat")
    assert house.weights() == {"chat-1": 1000} and house.state("chat-2") == "retired"
    with pytest.raises(NotFound, match="no release to go back to"):
        house.office.roll_back(SYSTEM, "chat")
    house.office.roll_back(SYSTEM, "chat", to="chat-2")
    assert house.state("chat-2") == "warming" and house.weights() == {"chat-1": 1000}
    house.keeper.warmed("chat-2")
    assert house.weights() == {"chat-2": 1000}


def test_an_alias_leads_by_hand_to_what_was_never_compared_only_with_a_reason(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "standby", standby_s=600)
    with pytest.raises(Conflict, match="chat-2 was never compared") as caught:
        house.office.set_alias(SYSTEM, "prod", {"chat-1": 900, "chat-2": 100})
    assert "--why" in caught.value.hint
    house.office.set_alias(SYSTEM, "prod", {"chat-1": 1000})
    with pytest.raises(Conflict, match="chat-2 was never compared"):
        house.office.set_alias(SYSTEM, "prod", {"chat-2": 1000})
    house.office.set_alias(SYSTEM, "prod", {"chat-1": 900, "chat-2": 100}, why="the vendor asks for it")
    house.office.set_alias(SYSTEM, "prod", {"chat-1": 500, "chat-2": 500})  # it answers already
    assert house.office.book(SYSTEM, "release/chat-2").aliases["prod"].weight("chat-2") == 500


def test_a_second_rollback_says_what_it_would_bring_back(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live", standby_s=600)
    house.office.roll_back(SYSTEM, "chat", why="users complain")
    with pytest.raises(Conflict, match="was rolled back to chat-1 already; another rollback would bring chat-2 back"):
        house.office.roll_back(SYSTEM, "chat", why="and again")
    assert house.weights() == {"chat-1": 1000}
    house.office.roll_back(SYSTEM, "chat", to="chat-2")
    assert house.weights() == {"chat-2": 1000}
    house.send(house.make(), "canary", share=300)
    house.office.roll_back(SYSTEM, "chat")  # ends the candidate, so the next one undoes nothing
    house.office.roll_back(SYSTEM, "chat")
    assert house.weights() == {"chat-1": 1000}


def test_a_candidate_that_falls_has_failed_and_stays_so(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "canary", share=300)
    house.keeper.fell("chat-2", "its host was killed by SIGKILL", {"restarts": 3})
    assert house.state("chat-2") == "failed" and house.weights() == {"chat-1": 1000}
    assert house.office.history(SYSTEM, release="chat-2")[0].evidence["restarts"] == 3
    assert any(act.action == "release:fell" and "SIGKILL" in str(act.detail) for act in house.recorder.acts)
    with pytest.raises(Conflict, match="chat-2 is failed"):
        house.office.roll_out(SYSTEM, "chat-2", Way(goal="live"))
    with pytest.raises(Conflict, match="failed"):
        house.office.roll_back(SYSTEM, "chat", to="chat-2")
    house.keeper.fell("chat-1", "killed", {})
    assert house.state("chat-1") == "live", "there is nothing else to answer"


def test_what_is_live_and_falls_gives_way_to_the_standby_and_stands_by_itself(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live")
    house.keeper.fell("chat-2", "a host fell", {"restarts": 1})
    assert house.weights() == {"chat-1": 1000}
    assert (house.state("chat-1"), house.state("chat-2")) == ("live", "standby")
    event = next(one for one in house.office.history(SYSTEM, alias="chat") if one.verb == "rollback")
    assert (event.release, event.actor, event.why, event.evidence["restarts"]) == ("chat-1", "system", "a host fell", 1)
    house.keeper.fell("chat-1", "a host fell", {})
    assert house.weights() == {"chat-2": 1000}, "whatever falls, what is warm answers"
    house.keeper.fell("chat-1", "hosts fell 3 times", {})
    assert house.state("chat-1") == "failed"
    house.keeper.fell("chat-2", "a host fell", {})
    assert house.state("chat-2") == "live", "there is nothing else to answer"


def test_what_is_live_and_falls_gives_way_to_the_standby_and_not_to_a_candidate(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live")
    house.send(house.make(), "canary", share=100)
    house.keeper.fell("chat-2", "a host fell", {})
    assert house.weights() == {"chat-1": 1000}
    assert [house.state(f"chat-{n}") for n in (1, 2, 3)] == ["live", "standby", "retired"]


def test_what_fell_and_is_left_to_its_operator_stays_live(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live", automatic=False)
    house.keeper.fell("chat-2", "a host fell", {})
    assert house.weights() == {"chat-2": 1000}


def test_what_the_time_has_come_for(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "canary", share=50, steps=(200, 500), step_s=60)
    for due, share in ((59, 50), (1, 200), (60, 500), (600, 500)):
        house.clock.advance(due)
        house.keeper.on_time()
        assert house.weights()["chat-2"] == share
    house.send("chat-2", "live", standby_s=100)
    house.clock.advance(99)
    house.keeper.on_time()
    assert house.state("chat-1") == "standby"
    house.clock.advance(-50)  # a clock that jumps back ends nothing early, and the next look finds the same
    house.keeper.on_time()
    assert house.state("chat-1") == "standby"
    house.clock.advance(51)
    house.keeper.on_time()
    assert house.state("chat-1") == "retired" and house.weights() == {"chat-2": 1000}


def test_when_the_time_of_a_release_comes_is_known_wherever_it_has_hosts(house: House) -> None:
    house.up("chat=fake:echo", "other=fake:echo")
    now_s = int(house.acts.now_s)
    assert house.keeper.next_time(after_s=now_s) == 0
    house.send(house.make(), "live", standby_s=100)
    house.send(house.make(), "canary", share=50, steps=(200,), step_s=60)
    assert [house.keeper.next_time(after_s=now_s + passed) for passed in (0, 60, 100)] == [now_s + 60, now_s + 100, 0]


def test_a_clock_that_jumps_ends_nothing_and_holds_nothing_up(house: House) -> None:
    house.up("chat=fake:echo", "other=fake:echo")
    house.send(house.make(), "live", standby_s=100)
    house.send(house.make(), "canary", share=50, steps=(200,), step_s=60)
    for jump_s in (86_400, -172_800, 86_400):
        house.clock.advance(5)
        house.clock.jump(jump_s)
        house.keeper.clock_jumped(jump_s)
        house.keeper.on_time()
        assert (house.state("chat-1"), house.weights()["chat-3"]) == ("standby", 50), jump_s
    house.clock.advance(45)
    house.keeper.on_time()
    assert (house.state("chat-1"), house.weights()["chat-3"]) == ("standby", 200)
    house.clock.advance(40)
    house.keeper.on_time()
    assert house.state("chat-1") == "retired"


def test_what_moved_just_after_a_jump_has_its_time(house: House) -> None:
    house.up("chat=fake:echo")
    house.clock.advance(60)
    house.clock.jump(-86_400)
    house.send(house.make(), "live", standby_s=100)  # before the supervisor has looked at the clock
    house.keeper.clock_jumped(-86_400)
    house.clock.advance(99)
    house.keeper.on_time()
    assert house.state("chat-1") == "standby"


def test_of_several_homes_on_one_state_none_moves_the_times_of_the_others(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live", standby_s=100)
    house.clock.advance(5)
    ReleaseKeeper(house.acts, house.workshop, home="a:/srv").clock_jumped(86_400)
    house.clock.advance(95)
    house.keeper.on_time()
    assert house.state("chat-1") == "retired"


def test_an_alias_that_is_gone_from_ashore_toml_is_forgotten_with_its_releases(house: House) -> None:
    house.up("chat=fake:echo", "embed=fake:random")
    house.send(house.make(), "live")
    house.office.set_alias(SYSTEM, "vectors", {"embed-1": 1000})
    assert house.adopt("embed=fake:random") == ("chat",)
    assert [alias.name for alias in house.office.aliases(SYSTEM)] == ["embed", "vectors"], "made by command: they stay"
    assert (house.state("chat-1"), house.state("chat-2")) == ("retired", "retired")
    assert house.keeper.wanted({"chat"}) == ()
    event = house.office.history(SYSTEM, alias="chat", limit=3)[-1]
    assert (event.verb, event.release, event.actor, event.why) == (
        "remove",
        "chat-2",
        "system",
        "gone from ashore.toml",
    )
    assert house.adopt("embed=fake:random") == ()
    assert house.adopt("embed=fake:random", "chat=fake:echo") == ()
    assert house.weights() == {"chat-3": 1000}, "who comes back begins anew"


def test_a_reload_does_not_take_away_what_was_led_by_hand_and_a_start_says_so(house: House) -> None:
    house.up("chat=fake:echo", "embed=fake:random")
    house.office.set_alias(SYSTEM, "prod", {"chat-1": 1000})
    house.office.set_alias(SYSTEM, "both", {"chat-1": 250, "embed-1": 750})
    plan = house.plan("embed=fake:random")
    with pytest.raises(Conflict, match=r"(prod|both) leads to chat-1") as refused:
        house.keeper.check_reload(plan)
    assert "ashore alias" in refused.value.hint
    assert house.weights("prod") == {"chat-1": 1000}
    assert set(house.adopt("embed=fake:random")) == {"chat", "prod"}
    assert house.weights("both") == {"embed-1": 1000}
    house.keeper.check_reload(plan)


def test_what_another_home_on_the_same_state_declares_is_left_to_it(house: House) -> None:
    here, there = (ReleaseKeeper(house.acts, house.workshop, home=name) for name in ("a:/srv", "b:/srv"))
    for keeper, models in ((here, ("chat=fake:echo", "embed=fake:echo")), (there, ("chat=fake:echo",))):
        keeper.adopt(keeper.propose(house.plan(*models)))
    assert there.adopt(there.propose(house.plan("chat=fake:echo"))) == (), "embed is none of its business"
    assert here.adopt(here.propose(house.plan("embed=fake:echo"))) == ()
    assert house.weights() == {"chat-1": 1000}, "the other one still has it"
    assert there.adopt(there.propose(house.plan("embed=fake:echo"))) == ("chat",)
    assert [alias.name for alias in house.office.aliases(SYSTEM)] == ["embed"]


def test_of_two_who_promote_different_releases_one_wins_and_nothing_is_half(house: House) -> None:
    house.up("chat=fake:echo")
    second, third = house.make(), house.make()
    for _ in range(4):
        results: dict[str, str] = {}
        ready = threading.Barrier(2)

        def promote(name: str, results: dict[str, str], ready: threading.Barrier) -> None:
            ready.wait()
            try:
                house.office.roll_out(SYSTEM, name, Way(goal="live"), override="a trial")
                results[name] = "won"
            except Conflict as told:
                results[name] = told.message

        threads = [threading.Thread(target=promote, args=(name, results, ready)) for name in (second, third)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (won,) = [name for name, result in results.items() if result == "won"]
        (lost,) = results.keys() - {won}
        assert results[lost].startswith(f"{won} is on its way to chat: it is warming")
        assert house.state(won) == "warming" and house.state(lost) in ("created", "retired")
        assert house.weights() == {"chat-1": 1000}
        house.office.roll_back(SYSTEM, "chat")


def test_what_its_operator_takes_back_by_hand_is_left_alone(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "canary", share=50, automatic=False)
    house.keeper.fell("chat-2", "killed", {})
    assert house.state("chat-2") == "canary"


def test_a_candidate_found_worse_is_taken_back_with_the_evidence(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "canary", share=50)
    bad, good = (observed(BY_NAME["errors"], value) for value in (1.0, 0.0))
    assert house.keeper.judge("chat-2", "canary", {("errors", EVERYTHING): good}).verdict == "go on"
    for number in range(40):
        slices = {("errors", part): bad for part in (EVERYTHING, f"tenant {number % 2}")}
        if house.keeper.judge("chat-2", "canary", slices).verdict == "worse":
            break
    assert number < 12 and house.state("chat-2") == "failed" and house.weights() == {"chat-1": 1000}
    event = house.office.history(SYSTEM, release="chat-2")[0]
    assert "found worse after" in event.why and event.evidence["measure"] == "errors"
    assert house.recorder.acts[-1].action == "release:automatic-rollback"
    ((stage, finding),) = house.office.evidence(SYSTEM, "chat-2")
    assert (stage, finding.verdict) == ("canary", "worse") and finding.e_value >= 20
    house.keeper.judge("chat-2", "canary", {("errors", EVERYTHING): bad})  # late, and of a stage that is over
    assert house.state("chat-2") == "failed"


def test_a_canary_that_burns_its_objective_is_taken_back_with_the_evidence(house: House) -> None:
    slo = Slo(errors_percent=1.0, window_s=3600)
    house.up("chat=fake:echo")
    house.send(house.make(), "canary", share=100)
    at_s = int(house.clock.now_s())

    def counts(total: int, bad: int) -> list[Count]:
        return [Count(objective="errors", at_s=at_s, total=total, bad=bad)]

    assert house.keeper.guard(slo, {"chat-1": counts(90, 0), "chat-2": counts(20, 2)}) == ()
    assert house.keeper.guard(slo, {"gone": counts(9, 9)}) == ()
    assert house.keeper.guard(slo, {"chat-1": counts(10, 2), "chat-2": counts(10, 3)}) == ("chat-2",)  # another worker
    assert house.state("chat-2") == "failed" and house.weights() == {"chat-1": 1000}
    event = house.office.history(SYSTEM, release="chat-2")[0]
    assert "burns its objective of errors 16.7 times too fast over 300 s" in event.why
    assert (event.evidence["bad"], event.evidence["requests"], event.evidence["burn_rate_of_live"]) == (5, 30, 2.0)
    act = house.recorder.acts[-1]
    assert act.action == "release:automatic-rollback" and act.detail["burn_rate_long"] == "16.67"
    assert house.keeper.guard(slo, {"chat-2": counts(10, 9)}) == (), "late, and of one that is gone"


def test_a_canary_in_its_operators_hands_may_burn(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "canary", share=100, automatic=False)
    count = Count(objective="errors", at_s=int(house.clock.now_s()), total=50, bad=50)
    assert house.keeper.guard(Slo(errors_percent=1.0), {"chat-2": [count]}) == ()
    assert house.state("chat-2") == "canary"


def live_worse(house: House, name: str) -> str:
    """Have a release as live found worse; return the verdict."""
    bad = observed(BY_NAME["errors"], 1.0)
    verdict = ""
    for _ in range(20):
        verdict = house.keeper.judge(name, "live", {("errors", EVERYTHING): bad}).verdict
        if verdict == "worse":
            break
    return verdict


def test_what_is_live_and_worse_than_the_one_before_is_taken_back_once_with_the_evidence(house: House) -> None:
    house.up("chat=fake:echo")
    assert house.send(house.make(), "live") == "live"
    assert live_worse(house, "chat-2") == "worse"
    assert (house.state("chat-2"), house.state("chat-1")) == ("failed", "live")
    assert house.weights() == {"chat-1": 1000}
    events = house.office.history(SYSTEM, alias="chat")
    back = next(event for event in events if event.verb == "rollback")
    assert (back.release, back.actor) == ("chat-1", "system") and "found worse after" in back.why
    assert back.evidence["measure"] == "errors"
    assert (house.recorder.acts[-1].action, house.recorder.acts[-1].resource) == (
        "release:automatic-rollback", "release/chat-2",
    )  # fmt: skip
    assert [stage for stage, _ in house.office.evidence(SYSTEM, "chat-2")] == ["live"]
    assert live_worse(house, "chat-1") == "worse"
    house.clock.advance(7200)
    house.keeper.on_time()
    assert (house.state("chat-2"), house.state("chat-1")) == ("failed", "live"), "nothing goes to and fro"


def test_what_came_back_is_not_taken_back_to_what_it_came_from(house: House) -> None:
    """By hand: the one that was left stands by, and might be warm for hours."""
    house.up("chat=fake:echo")
    house.send(house.make(), "live")
    house.office.roll_back(SYSTEM, "chat")
    assert (house.state("chat-1"), house.state("chat-2")) == ("live", "standby")
    live_worse(house, "chat-1")
    assert house.weights() == {"chat-1": 1000}


def test_who_asks_is_told_to_wait_while_a_release_loads_in_the_place_of_another(house: House) -> None:
    house.up("chat=fake:echo")
    house.office.roll_out(SYSTEM, house.make(), Way(goal="live", cold=True), override="a trial")
    assert routes_of(house.office.book(SYSTEM))["chat"].loads_in_place
    house.keeper.warmed("chat-2")
    assert not routes_of(house.office.book(SYSTEM))["chat"].loads_in_place


@pytest.mark.parametrize("case", ["by hand", "cold", "time over", "weights set", "fell"])
def test_what_is_live_stays_where_nothing_stands_by_for_it(house: House, case: str) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live", automatic=case != "by hand", cold=case == "cold", standby_s=60)
    expected = {"chat-2": 1000}
    match case:
        case "time over":
            house.clock.advance(61)
            house.keeper.on_time()
        case "weights set":
            house.office.set_alias(SYSTEM, "chat", {"chat-1": 100, "chat-2": 900})
            expected = {"chat-1": 100, "chat-2": 900}
        case "fell":
            house.keeper.fell("chat-2", "killed", {})
            expected = {"chat-1": 1000}
    assert live_worse(house, "chat-2") == "worse"
    assert house.weights() == expected


def test_what_is_live_and_burns_its_objective_by_its_own_fault_is_taken_back(house: House) -> None:
    slo = Slo(errors_percent=1.0, window_s=3600)
    house.up("chat=fake:echo")
    at_s = int(house.clock.now_s())

    def counts(total: int, bad: int, objective: str = "errors") -> list[Count]:
        return [Count(objective=objective, at_s=at_s, total=total, bad=bad)]

    house.keeper.guard(slo, {"chat-1": counts(400, 2)})
    house.send(house.make(), "live")
    both = counts(100, 50)
    assert house.keeper.guard(slo, {"chat-2": both}) == (), "the one before would have failed too"
    assert house.keeper.guard(slo, {"chat-2": counts(30, 5, "errors alone")}) == ("chat-2",)
    assert (house.state("chat-2"), house.state("chat-1")) == ("failed", "live")
    act = house.recorder.acts[-1]
    assert act.action == "release:automatic-rollback"
    assert (act.detail["burn_rate_long"], act.detail["burn_rate_of_the_one_before"]) == ("16.67", "0.5")
    assert house.keeper.guard(slo, {"chat-1": counts(30, 30, "errors alone")}) == ()


def test_it_goes_live_by_itself_for_what_was_seen_at_its_last_share(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "canary", share=50, steps=(500,), step_s=60, then_promote=True)
    good = Tally()
    for _ in range(400):
        good = good + observed(BY_NAME["errors"], 0.0)
    house.keeper.judge("chat-2", "canary", {("errors", EVERYTHING): good, ("errors", step_slice(50)): good})
    for _ in range(3):
        house.clock.advance(61)
        house.keeper.on_time()
    assert house.state("chat-2") == "canary", "nobody has seen it at half of the requests"
    ((_, found),) = house.office.evidence(SYSTEM, "chat-2")
    assert found.verdict == "go on"
    house.keeper.judge("chat-2", "canary", {("errors", EVERYTHING): good, ("errors", step_slice(500)): good})
    assert house.office.evidence(SYSTEM, "chat-2")[0][1].verdict == "no worse"
    house.keeper.on_time()
    assert house.state("chat-2") == "live"


def pair(number: int, distance: float, *, at_s: int = 1_000_000) -> Pair:
    return Pair(
        pair_id=pair_id_of(at_s, f"{number:04x}"),
        distance=distance,
        at_s=at_s,
        tenant="acme",
        prompt=f"question {number}",
        live="yes",
        candidate="no",
    )


def test_of_all_pairs_the_most_different_stay_and_age_takes_them(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "shadow", share=100)
    for first in (0, 10):  # two workers
        batch = [pair(n, n / 20) for n in range(first, first + 10)]
        for _ in range(2):  # told twice
            house.keeper.keep_pairs("chat-2", batch, most=4)
    kept = house.office.pairs(SYSTEM, "chat-2")
    assert [one.prompt for one in kept] == [f"question {n}" for n in (19, 18, 17, 16)]
    assert house.recorder.acts[-1].action == "release:pairs", "who reads them is in the record"
    house.keeper.keep_pairs("gone", [pair(1, 1.0)], most=4)
    with pytest.raises(NotFound):
        house.office.pairs(SYSTEM, "gone")
    house.keeper.keep_pairs("chat-2", [pair(99, 0.99, at_s=1_000_100)], most=4)
    house.clock.advance(30 * 86_400 + 50)
    house.keeper.on_time()
    assert [one.prompt for one in house.office.pairs(SYSTEM, "chat-2")] == ["question 99"]


def test_what_a_release_gave_is_kept_by_level_and_forgotten_with_age(house: House) -> None:
    house.up("chat=fake:echo")

    def level(number: int, count: int) -> GivenLevel:
        given = Given(house.clock.now_s(), False, 0.25)
        return GivenLevel(level=number, count=count, failed=1, late=2, kept=(given,) * 3)

    house.keeper.keep_given({"chat-1": (level(3, 10), level(5, 20))})
    house.keeper.keep_given({"chat-1": (level(5, 30),), "chat-2": (level(1, 1),)})
    assert house.keeper.given("chat-1") == (level(3, 10), level(5, 30))
    assert house.keeper.given("chat-9") == ()
    house.clock.advance(FORGOTTEN_S + 1)
    house.keeper.keep_given({"chat-2": (level(1, 1),)})
    assert house.keeper.given("chat-1") == () and house.keeper.given("chat-2") == (level(1, 1),)


def test_pairs_are_for_model_owners_and_of_their_own_tenant(house: House) -> None:
    house.up("chat=fake:echo")
    people, book = People(house.acts), PolicyBook(house.acts)
    people.create_tenant(SYSTEM, "bank-a")
    people.create_tenant(SYSTEM, "bank-b")
    book.put_role(SYSTEM, Role(name="all-pairs", rules=(parse_rule("release:pairs on *"),)))
    rules = ("release:pairs on release/*", "release:pairs on tenant/*", "deny release:pairs on tenant/acme")
    book.put_role(SYSTEM, Role(name="most-pairs", rules=tuple(map(parse_rule, rules))))
    actors = {}
    for user, role in (
        ("owner", "model-owner"), ("sys", "system-administrator"), ("all", "all-pairs"), ("most", "most-pairs"),
    ):  # fmt: skip
        people.create_account(SYSTEM, AccountWish(id=user, tenant="bank-a", roles=(role,), key=KeyWish()))
        actors[user] = Actor(principal=Principal(id=user, tenant=TenantId("bank-a")))
    made = [replace(pair(n, 0.5), tenant=tenant) for n, tenant in enumerate(("bank-a", "bank-b", "acme"))]
    house.keeper.keep_pairs("chat-1", made, most=9)

    def seen(user: str) -> set[str]:
        return {one.tenant for one in house.office.pairs(actors[user], "chat-1")}

    assert seen("owner") == {"bank-a"}
    assert house.recorder.acts[-1].detail["pairs"] == 1
    assert seen("all") == {"bank-a", "bank-b", "acme"}
    assert seen("most") == {"bank-a", "bank-b"}
    with pytest.raises(PermissionDenied):
        seen("sys")


def test_of_two_operators_one_wins_and_the_other_is_told(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live", standby_s=600)
    third = house.make()
    seen = house.office.alias(SYSTEM, "chat").version
    results: list[str] = []

    def operate(move: Callable[[], object]) -> None:
        try:
            move()
            results.append("won")
        except Conflict as told:
            results.append(told.message)

    threads = [
        threading.Thread(target=operate, args=(move,))
        for move in (
            lambda: house.office.roll_out(SYSTEM, "chat-1", Way(goal="live"), seen=seen),
            lambda: house.office.roll_back(SYSTEM, "chat", seen=seen),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result == "won" for result in results) == [False, True]
    assert f"you saw {seen}" in next(result for result in results if result != "won")
    house.office.roll_out(SYSTEM, third, Way(goal="shadow", share=10))
    fourth = house.make()
    with pytest.raises(Conflict, match="chat-3 is on its way to chat: it is warming"):
        house.office.roll_out(SYSTEM, fourth, Way(goal="live"))


def test_releases_do_not_change_and_bad_words_are_told(house: House) -> None:
    house.up("chat=fake:echo")
    assert house.make(name="chat-blue") == "chat-blue"
    with pytest.raises(Conflict, match="do not change"):
        house.make(name="chat-blue")
    with pytest.raises(InvalidRequest):
        house.make(name="two words")
    with pytest.raises(NotFound) as unknown:
        house.office.create(SYSTEM, ReleaseWish(model="fake:echo", alias="chta"))
    assert "chat" in unknown.value.hint
    for call in (house.office.standing, house.office.retire):
        with pytest.raises(NotFound):
            call(SYSTEM, "chat-99")
    with pytest.raises(InvalidRequest):
        house.office.roll_out(SYSTEM, "chat-blue", Way(goal="canary", share=0))
    with pytest.raises(InvalidRequest, match="schedule"):
        house.office.roll_out(SYSTEM, "chat-blue", Way(goal="canary", share=10, steps=(20,)))
    with pytest.raises(InvalidRequest):
        house.office.retire(SYSTEM, "chat-blue", why="x" * 301)
    with pytest.raises(Conflict, match="answers for chat"):
        house.office.retire(SYSTEM, "chat-1")


def test_memory_for_two_is_planned_before_anything_starts(house: House) -> None:
    house.workshop.free = 3 * GIB
    house.up("chat=fake:echo")
    name = house.make("big")
    with pytest.raises(MemoryFull, match="chat-2 needs 4 GiB") as refused:
        house.office.roll_out(SYSTEM, name, Way(goal="live"))
    assert "--cold-standby" in refused.value.hint and house.state(name) == "created"
    with pytest.raises(MemoryFull):
        house.office.roll_out(SYSTEM, name, Way(goal="live", cold=True))
    house.workshop.free = 5 * GIB
    assert house.send(name, "live", cold=True) == "live"
    assert house.state("chat-1") == "retired", "a cold standby is none"
    house.keeper.loaded("chat-1", 12.34)
    house.workshop.free = 1 * GIB
    (back,) = house.office.roll_back(SYSTEM, "chat", why="users complain")
    assert (back.release.name, back.course.state, back.course.load_s) == ("chat-1", "warming", 12.3)
    assert back.course.cold, "what was promoted so is gone back from so, and nobody has to say it again"
    house.keeper.warmed("chat-1")
    assert (house.state("chat-1"), house.state(name)) == ("live", "retired") and house.weights() == {"chat-1": 1000}
    assert house.office.alias(SYSTEM, "chat").before == name
    with pytest.raises(MemoryFull, match="beside what is warm"):
        house.office.roll_out(SYSTEM, name, Way(goal="live"))
    with pytest.raises(InvalidRequest, match="what is live answers meanwhile"):
        house.office.roll_out(SYSTEM, name, Way(goal="shadow", share=10, cold=True))


def test_a_cold_start_may_have_the_memory_of_all_that_is_warm(house: House) -> None:
    house.workshop.free = 10 * GIB
    house.up("chat=big")
    assert house.send(house.make("big"), "live") == "live"
    house.workshop.free = 1 * GIB  # two of them are warm
    third = house.make("big")
    with pytest.raises(MemoryFull, match=r"chat-3 needs 4 GiB.*1 GiB are free") as refused:
        house.office.roll_out(SYSTEM, third, Way(goal="live"))
    assert "frees 8 GiB" in refused.value.hint
    house.office.roll_out(SYSTEM, third, Way(goal="live", cold=True), override="a trial")
    assert house.state(third) == "warming"


def test_one_goes_back_to_a_standby_whose_time_is_over_by_loading_it(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live", standby_s=60)
    house.clock.advance(61)
    house.keeper.on_time()
    assert house.state("chat-1") == "retired"
    (back,) = house.office.roll_back(SYSTEM, "chat")
    assert (back.release.name, back.course.state, back.course.cold) == ("chat-1", "warming", False)
    house.keeper.warmed("chat-1")
    assert (house.state("chat-1"), house.state("chat-2")) == ("live", "standby")
    with pytest.raises(Conflict, match="another rollback would bring chat-2 back"):
        house.office.roll_back(SYSTEM, "chat")


def test_a_failed_evaluation_stops_a_release_unless_it_is_overridden(house: House) -> None:
    house.up("chat=fake:echo")
    with pytest.raises(Conflict, match=r"evaluation of bad failed: perplexity \+40 %"):
        house.make("bad")
    name = house.make("bad", override="the customer signed")
    assert house.office.standing(SYSTEM, name).release.gate == "overridden: the customer signed"
    act = house.recorder.acts[-1]
    assert act.action == "release:create" and act.detail["gate"] == "overridden: the customer signed"


def test_a_model_that_was_never_evaluated_is_released_unless_the_operator_requires_it(house: House) -> None:
    house.up("chat=fake:echo")
    assert house.office.standing(SYSTEM, house.make("new")).release.gate == "not evaluated"
    house.policy = ReleasePolicy(gate="required")
    with pytest.raises(Conflict, match=r'new was never evaluated.*\[release\] gate = "required"') as refused:
        house.make("new")
    assert "`ashore optimize evaluate new --gate gate.toml`" in refused.value.hint
    assert "--override" in refused.value.hint and len(house.office.standings(SYSTEM)) == 2
    assert house.office.standing(SYSTEM, house.make("good")).release.gate == "passed"
    with pytest.raises(Conflict, match="evaluation of bad failed"):
        house.make("bad")
    name = house.make("new", override="a trial")
    assert house.office.standing(SYSTEM, name).release.gate == "overridden: a trial"
    assert house.recorder.acts[-1].detail["gate"] == "overridden: a trial"


def test_what_was_never_compared_or_found_worse_is_promoted_with_a_reason_that_is_kept(house: House) -> None:
    house.up("chat=fake:echo")
    name = house.make()
    with pytest.raises(Conflict, match="chat-2 was never compared with what is live") as refused:
        house.office.roll_out(SYSTEM, name, Way(goal="live"))
    assert "--override" in refused.value.hint and house.state(name) == "created"
    house.send(name, "shadow", share=1000, automatic=False)
    good, bad = (observed(BY_NAME["errors"], value) for value in (0.0, 1.0))
    house.keeper.judge(name, "shadow", {("errors", EVERYTHING): good})
    assert house.send(house_undecided(house, name), "shadow", share=1000, automatic=False) == "shadow"
    for _ in range(20):
        house.keeper.judge(name, "shadow", {("errors", EVERYTHING): bad})
    with pytest.raises(Conflict, match=r"chat-2 was found worse as shadow: worse after 21 requests; errors: 95\.2%"):
        house.office.roll_out(SYSTEM, name, Way(goal="live"))
    assert house.weights() == {"chat-1": 1000}
    house.office.roll_out(SYSTEM, name, Way(goal="live"), why="Friday", override="the customer signed")
    assert house.weights() == {"chat-2": 1000}
    act = house.recorder.acts[-1]
    assert act.action == "release:promote" and act.detail["override"] == "the customer signed"
    assert "found worse as shadow" in str(act.detail["overridden"])
    event = next(one for one in house.office.history(SYSTEM, release=name) if one.verb == "promote")
    assert (event.why, event.evidence["override"]) == ("Friday", "the customer signed")


def house_undecided(house: House, name: str) -> str:
    """Promote a release whose comparison is undecided, and go back."""
    house.office.roll_out(SYSTEM, name, Way(goal="live"))
    assert "override" not in house.recorder.acts[-1].detail
    house.office.roll_back(SYSTEM, "chat")
    return name


def test_what_has_answered_needs_no_reason_to_come_back_and_nobody_goes_back_to_what_never_did(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live")
    house.office.roll_back(SYSTEM, "chat")
    house.office.roll_out(SYSTEM, "chat-2", Way(goal="live"))
    house.office.roll_out(SYSTEM, "chat-1", Way(goal="live"))
    assert house.weights() == {"chat-1": 1000}
    third = house.make()
    with pytest.raises(Conflict, match="chat-3 has never answered for chat"):
        house.office.roll_back(SYSTEM, "chat", to=third)


def test_a_release_has_the_adapters_of_what_is_live_and_takes_none_away_in_silence(
    house: House, tmp_path: Path
) -> None:
    house.up("chat=fake:echo")
    for name in ("tone", "tone2", "legal"):
        (tmp_path / name).mkdir()
    house.policy = ReleasePolicy(adapter_folders=(str(tmp_path),))

    def make(*adapters: tuple[str, str], drop: tuple[str, ...] = ()) -> str:
        wish = ReleaseWish(model="fake:random", alias="chat", adapters=adapters, drop_adapters=drop)
        return house.office.create(SYSTEM, wish).release.name

    def adapters(name: str) -> dict[str, str]:
        return dict(house.office.standing(SYSTEM, name).release.plan.adapters)

    tone, legal = ("tone", str(tmp_path / "tone")), ("legal", str(tmp_path / "legal"))
    house.send(make(tone), "live")
    house.policy = ReleasePolicy()  # what is inherited was allowed when it came
    assert adapters(make()) == dict([tone])
    house.policy = ReleasePolicy(adapter_folders=(str(tmp_path),))
    assert adapters(make(legal)) == dict([tone, legal])
    assert adapters(make(("tone", str(tmp_path / "tone2")))) == {"tone": str(tmp_path / "tone2")}
    with pytest.raises(InvalidRequest, match="'tune'") as refused:
        make(drop=("tune",))
    assert "'tone'" in refused.value.hint
    bare = make(drop=("tone",))
    assert adapters(bare) == {}
    for way in (Way(goal="live"), Way(goal="canary", share=100, steps=(200,), step_s=60, then_promote=True)):
        with pytest.raises(Conflict, match="has no adapter tone: chat:tone answers now") as told:
            house.office.roll_out(SYSTEM, bare, way, override="a trial")
        assert "--drop-adapters tone" in told.value.hint
    house.office.roll_out(SYSTEM, bare, Way(goal="live"), override="a trial", drop_adapters=("tone",))
    house.keeper.warmed(bare)
    assert house.weights() == {bare: 1000}
    house.office.roll_back(SYSTEM, "chat", to="chat-2")
    assert house.weights() == {"chat-2": 1000}, "the way back asks nothing"


def test_a_release_tells_how_the_evaluation_of_its_model_stands_now(house: House) -> None:
    house.up("chat=fake:echo")
    made = {model: house.make(model, override="a trial") for model in ("bad", "good", "new")}
    found = {model: house.office.standing(SYSTEM, name).gate for model, name in made.items()}
    assert {model: gate.outcome for model, gate in found.items() if gate} == {
        "bad": "failed",
        "good": "passed",
        "new": "",
    }


def test_aliases_by_hand(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live")
    alias = house.office.set_alias(SYSTEM, "chat-prod", {"chat-1": 250, "chat-2": 750}, sticky="key")
    assert alias.sticky == "key" and house.state("chat-1") == "live"
    house.office.roll_back(SYSTEM, "chat", to="chat-1")
    assert house.state("chat-2") == "live", "chat-prod still leads there"
    house.office.set_alias(SYSTEM, "chat-prod", {"chat-1": 1000}, seen=1)
    assert house.state("chat-2") == "standby"
    with pytest.raises(Conflict, match="you saw 1"):
        house.office.set_alias(SYSTEM, "chat-prod", {"chat-2": 1000}, seen=1)
    with pytest.raises(Conflict, match="engine hosts"):
        house.office.remove_alias(SYSTEM, "chat")
    house.office.remove_alias(SYSTEM, "chat-prod")
    with pytest.raises(NotFound):
        house.office.alias(SYSTEM, "chat-prod")


def test_the_authority_decides_on_the_state(house: House) -> None:
    house.up("chat=fake:echo")
    people = People(house.acts)
    for user, role in (("owner", "model-owner"), ("dev", "developer")):
        people.create_account(SYSTEM, AccountWish(id=user, roles=(role,), key=KeyWish()))
    owner, dev = (Actor(principal=Principal(id=u, tenant=TenantId("default"))) for u in ("owner", "dev"))
    house.office.create(owner, ReleaseWish(model="fake:random", alias="chat"))
    for refused in (
        lambda: house.office.create(dev, ReleaseWish(model="fake:random", alias="chat")),
        lambda: house.office.roll_out(dev, "chat-2", Way(goal="live")),
        lambda: house.office.roll_back(dev, "chat"),
        lambda: house.office.standings(dev),
        lambda: house.office.set_alias(dev, "x", {"chat-1": 1000}),
    ):
        with pytest.raises(PermissionDenied):
            refused()
    assert house.state("chat-2") == "created"


def test_a_name_of_ones_own_opens_neither_another_alias_nor_another_release(house: House) -> None:
    house.up("chat=fake:echo", "mine=fake:echo")
    people, book = People(house.acts), PolicyBook(house.acts)
    for user, rules in (
        ("mallory", ("release:write on release/mine*", "release:write on alias/mine*")),
        ("aliases", ("release:write on alias/*",)),
        ("releases", ("release:write on release/*",)),
        ("both", ("release:write on alias/chat", "release:write on release/*")),
    ):
        book.put_role(SYSTEM, Role(name=f"role-{user}", rules=tuple(map(parse_rule, rules))))
        people.create_account(SYSTEM, AccountWish(id=user, roles=(f"role-{user}",), key=KeyWish()))
    mallory, aliases, releases, both = (
        Actor(principal=Principal(id=u, tenant=TenantId("default"))) for u in ("mallory", "aliases", "releases", "both")
    )
    office, theirs = house.office, ReleaseWish(model="fake:random", alias="chat")
    assert office.create(both, theirs, name="mine-9").release.alias == "chat"
    office.create(both, theirs)
    moves: list[tuple[str, Callable[[Actor], object]]] = [
        ("alias/chat", lambda who: office.create(who, theirs, name="mine-8")),
        ("alias/chat", lambda who: office.roll_out(who, "mine-9", Way(goal="shadow", share=10))),
        ("alias/chat", lambda who: office.roll_out(who, "mine-9", Way(goal="canary", share=10))),
        ("alias/chat", lambda who: office.roll_out(who, "mine-9", Way(goal="live"))),
        ("alias/chat", lambda who: office.retire(who, "mine-9")),
        ("alias/chat", lambda who: office.roll_back(who, "chat")),
        ("release/chat-1", lambda who: office.set_alias(who, "mine-too", {"chat-1": 1000})),
        ("release/chat-2", lambda who: office.retire(who, "chat-2")),
    ]
    for missing, move in moves:
        with pytest.raises(PermissionDenied) as refused:
            move(mallory)
        assert refused.value.resource == missing and missing in refused.value.message
    for who, lacks in ((aliases, "release/"), (releases, "alias/")):
        for _, move in moves[:5]:
            with pytest.raises(PermissionDenied) as refused:
                move(who)
            assert refused.value.resource.startswith(lacks)
    with pytest.raises(PermissionDenied, match="release/chat-1"):
        office.set_alias(aliases, "x", {"chat-1": 1000})
    assert house.weights() == {"chat-1": 1000} and house.state("mine-9") == "created"
    assert office.roll_out(both, "mine-9", Way(goal="shadow", share=10)).course.state == "warming"


def narrowed(house: House, user: str, *rules: str) -> Actor:
    """Return a new user with these rules alone."""
    PolicyBook(house.acts).put_role(SYSTEM, Role(name=f"role-{user}", rules=tuple(map(parse_rule, rules))))
    People(house.acts).create_account(SYSTEM, AccountWish(id=user, roles=(f"role-{user}",), key=KeyWish()))
    return Actor(principal=Principal(id=user, tenant=TenantId("default")))


MINE = ("release:write on release/mine*", "release:write on alias/mine", "infer on model/mine")


@pytest.mark.parametrize("model", ["big", "big@int8", "tuned", "copied"])
def test_a_release_opens_no_model_that_its_maker_may_not_ask(house: House, model: str) -> None:
    """Whatever its maker calls it: a variant of the model, one made from it, the same bytes under another name."""
    house.workshop.needed = {**house.workshop.needed, "big@int8": 0, "tuned": 0, "copied": 0}
    house.workshop.origins = {"tuned": ("big", "tuned"), "copied": ("big", "copied")}
    house.up("hr=big", "mine=fake:echo")
    wish = ReleaseWish(model=model, alias="mine")
    asks = "infer on model/hr"
    for user, rules, missing in (
        ("neither", MINE, "model/hr"),
        ("writes", (*MINE, "release:write on alias/hr"), "model/hr"),
        ("asks", (*MINE, asks), "alias/hr"),
        ("denied", (*MINE, "infer on *", "release:write on *", "deny infer on model/big"), "model/big"),
    ):
        with pytest.raises(PermissionDenied) as refused:
            house.office.create(narrowed(house, user, *rules), wish)
        assert refused.value.resource == missing
    both = narrowed(house, "both", *MINE, asks, "release:write on alias/hr")
    assert house.office.create(both, wish, name="mine-2").course.state == "created"
    neither = Actor(principal=Principal(id="neither", tenant=TenantId("default")))
    for goal in ("shadow", "live"):
        with pytest.raises(PermissionDenied, match="model/hr"):
            house.office.roll_out(neither, "mine-2", Way(goal=goal, share=10), override="why")  # type: ignore[arg-type]
    assert house.office.create(neither, ReleaseWish(model="new", alias="mine")).release.name == "mine-3"


def test_what_a_model_is_counts_when_it_is_rolled_out_too_and_not_what_its_alias_has_already(house: House) -> None:
    house.up("mine=fake:echo")
    maker = narrowed(house, "maker", *MINE)
    house.office.create(maker, ReleaseWish(model="big", alias="mine"))
    house.up("mine=fake:echo", "hr=big")
    with pytest.raises(PermissionDenied, match="model/hr"):  # nobody answered with it when the release was made
        house.office.roll_out(maker, "mine-2", Way(goal="shadow", share=10))
    house.up("mine=big", "hr=big")
    assert house.office.create(maker, ReleaseWish(model="big", alias="mine")).release.name == "mine-4"


def test_an_alias_that_was_set_by_hand_has_no_release_that_would_wait_for_hosts_for_ever(house: House) -> None:
    house.up("chat=fake:echo", "prod=fake:echo")
    house.office.create(SYSTEM, ReleaseWish(model="fake:random", alias="prod"))
    house.adopt("chat=fake:echo")  # ashore.toml has no `prod` any more
    house.office.set_alias(SYSTEM, "prod", {"chat-1": 1000})
    for refused in (
        lambda: house.office.create(SYSTEM, ReleaseWish(model="fake:random", alias="prod")),
        lambda: house.office.roll_out(SYSTEM, "prod-2", Way(goal="shadow", share=10)),
        lambda: house.office.roll_back(SYSTEM, "prod", to="prod-1"),
    ):
        with pytest.raises(Conflict, match="set by hand") as told:
            refused()
        assert "--alias chat" in told.value.hint
    assert {house.state("prod-1"), house.state("prod-2")} == {"retired", "created"}
    house.up("chat=fake:echo", "prod=fake:echo")
    assert house.send("prod-2", "shadow", share=10) == "shadow", "a [[model]] gives it hosts"


def test_a_release_that_somebody_may_not_read_is_in_no_list(house: House) -> None:
    house.up("chat=fake:echo", "secret=fake:echo")
    rules = tuple(map(parse_rule, ("release:read on *", "deny release:read on release/secret*")))
    PolicyBook(house.acts).put_role(SYSTEM, Role(name="most", rules=rules))
    People(house.acts).create_account(SYSTEM, AccountWish(id="reader", roles=("most",), key=KeyWish()))
    reader = Actor(principal=Principal(id="reader", tenant=TenantId("default")))
    assert [one.release.name for one in house.office.standings(reader)] == ["chat-1"]
    assert {event.release for event in house.office.history(reader)} == {"chat-1"}
    assert house.office.standing(reader, "chat-1").course.state == "live"
    with pytest.raises(PermissionDenied):
        house.office.standing(reader, "secret-1")


def test_a_key_for_some_models_moves_no_other_alias(house: House) -> None:
    house.up("chat=fake:echo", "mine=fake:echo")
    people = People(house.acts)
    people.create_account(SYSTEM, AccountWish(id="owner", roles=("model-owner",), key=KeyWish()))
    narrow = Actor(principal=Principal(id="owner", tenant=TenantId("default"), scope=KeyScope(models=("mine*",))))
    with pytest.raises(PermissionDenied, match="for the models"):
        house.office.create(narrow, ReleaseWish(model="fake:random", alias="chat"))
    with pytest.raises(PermissionDenied, match="for the models"):
        house.office.set_alias(narrow, "other", {"mine-1": 1000})
    assert house.office.create(narrow, ReleaseWish(model="fake:random", alias="mine")).release.name == "mine-2"


def test_nothing_of_a_move_is_kept_when_it_breaks_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine dies at each write of a promotion in turn: afterwards all of it is there, or nothing."""
    from ashore.releases import sql

    house.up("chat=fake:echo")
    house.send(house.make(), "shadow", share=10)
    real, count = sql.execute, 0
    for dies_at in range(1, 40):
        count = 0

        def counted(*args: object, **values: object) -> object:
            nonlocal count
            count += 1
            if count == dies_at:  # noqa: B023 - called inside this turn of the loop
                raise Dies
            return real(*args, **values)  # type: ignore[arg-type]

        monkeypatch.setattr(sql, "execute", counted)
        try:
            house.office.roll_out(SYSTEM, "chat-2", Way(goal="live"), override="a trial")
        except Dies:
            monkeypatch.setattr(sql, "execute", real)
            assert house.weights() == {"chat-1": 1000}
            assert (house.state("chat-1"), house.state("chat-2")) == ("live", "shadow")
            continue
        break
    monkeypatch.setattr(sql, "execute", real)
    assert dies_at > 5 and house.weights() == {"chat-2": 1000} and house.state("chat-1") == "standby"


class Dies(AshoreError):
    """The machine is gone."""

    code = "dies"


def test_what_could_not_load_at_a_start_has_failed_and_what_the_file_names_answers(house: House) -> None:
    house.up("chat=fake:echo")
    assert house.send(house.make("new"), "live") == "live"
    plan = house.keeper.propose(house.plan("chat=fake:echo"), replaced=("chat",))
    house.keeper.adopt(plan, failed={"chat-2": "engine_failed: it does not load"})
    assert house.weights() == {"chat-3": 1000}
    course = house.office.standing(SYSTEM, "chat-2").course
    assert (course.state, course.why) == ("failed", "engine_failed: it does not load")
    events = house.office.history(SYSTEM, release="chat-2")
    assert (events[0].verb, events[0].why) == ("fail", "engine_failed: it does not load")


def test_a_start_makes_known_what_is_new_and_changes_nothing_else_before_that_has_loaded(house: House) -> None:
    house.up("chat=fake:echo", "embed=fake:random")
    before = house.office.alias(SYSTEM, "chat")
    plan = house.keeper.propose(house.plan("chat=fake:random", "new=fake:echo"))
    assert house.keeper.adopt(plan, new_names_alone=True) == ()
    assert house.office.alias(SYSTEM, "chat") == before and house.weights("new") == {"new-1": 1000}
    assert house.weights("embed") == {"embed-1": 1000}
    assert house.keeper.adopt(plan) == ("embed",) and house.weights() == {"chat-2": 1000}


def test_a_name_that_somebody_else_took_meanwhile_is_not_taken_for_ours(house: House) -> None:
    house.up("chat=fake:echo")
    plan = house.keeper.propose(house.plan("chat=fake:random"))
    house.make("fake:random?tokens=3")
    with pytest.raises(Conflict, match=r"somebody made a release chat-2 of fake:random\?tokens=3 while fake:random"):
        house.keeper.adopt(plan)
    assert house.up("chat=fake:random") == {"chat": "chat-3"}


@pytest.mark.parametrize("column", ["document", "course"])
def test_a_release_whose_row_cannot_be_read_has_failed_and_nothing_else_suffers(house: House, column: str) -> None:
    house.up("chat=fake:echo", "embed=fake:random")
    house.send(house.make("good"), "live")
    with house.database.write() as connection:
        execute(connection, f"UPDATE release SET {column} = :torn WHERE name = 'chat-2'", torn='{"release": 7}')
    course = house.office.standing(SYSTEM, "chat-2").course
    assert course.state == "failed" and course.why.startswith("what the state has of it cannot be read: ")
    assert {one.plan.release for one in house.keeper.wanted(("chat", "embed"))} == {"chat-1", "embed-1"}
    assert house.up("chat=fake:echo", "embed=fake:random") == {"chat": "chat-3", "embed": "embed-1"}
    assert house.weights() == {"chat-3": 1000} and house.state("chat-2") == "failed"


def test_an_alias_whose_row_cannot_be_read_is_led_anew(house: House) -> None:
    house.up("chat=fake:echo", "embed=fake:random")
    house.send(house.make("good"), "live")
    with house.database.write() as connection:
        execute(connection, "UPDATE release_alias SET document = '{' WHERE name = 'chat'")
    assert house.weights() == {"chat-2": 1000}
    assert house.up("chat=fake:echo", "embed=fake:random") == {"chat": "chat-3", "embed": "embed-1"}
    assert house.weights() == {"chat-3": 1000}


def test_why_a_release_fell_is_kept_whatever_the_names_of_its_files_are(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make("new"), "shadow", share=100)
    house.keeper.fell("chat-2", "cannot be read: /a/\udcff\x1b[2J:\nPermission denied", {})
    assert house.office.standing(SYSTEM, "chat-2").course.why == (
        "cannot be read: /a/\ufffd\ufffd[2J: Permission denied"
    )
