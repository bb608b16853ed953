"""What is seen of a release, on every database: found worse, rolled back with the evidence, gone live by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from release_house import House

from ashore.control.access import AccountWish, KeyWish, People, PolicyBook
from ashore.core.errors import Conflict, NotFound, PermissionDenied
from ashore.core.ids import TenantId
from ashore.data.authority import SYSTEM, Actor, Principal, Role, parse_rule
from ashore.data.releases import (
    BY_NAME,
    EVERYTHING,
    Count,
    Given,
    GivenLevel,
    Pair,
    ReleasePolicy,
    Slo,
    Tally,
    Way,
    observed,
    pair_id_of,
    routes_of,
    step_slice,
)
from ashore.data.releases.model import FORGOTTEN_S


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
    assert house.office.evidence(SYSTEM, "chat-2") == ((stage, finding),), "one number of requests everywhere"
    assert event.why.startswith(f"found worse after {finding.count} requests")


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
    whys = [house.office.standing(SYSTEM, name).course.why for name in ("chat-1", "chat-2")]
    assert whys[0] == f"back from chat-2: {whys[1]}" and whys[1].startswith("found worse after")
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
    with pytest.raises(Conflict, match="chat-2 was never compared with the live release") as refused:
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


def test_a_release_tells_how_the_evaluation_of_its_model_stands_now(house: House) -> None:
    house.up("chat=fake:echo")
    made = {model: house.make(model, override="a trial") for model in ("bad", "good", "new")}
    found = {model: house.office.standing(SYSTEM, name).gate for model, name in made.items()}
    assert {model: gate.outcome for model, gate in found.items() if gate} == {
        "bad": "failed",
        "good": "passed",
        "new": "",
    }
