"""The life of a release on every database: made, rolled out, promoted, rolled back."""

from __future__ import annotations

from pathlib import Path

import pytest
from release_house import House

from ashore.core.errors import Conflict, InvalidRequest, NotFound
from ashore.data.authority import SYSTEM
from ashore.data.releases import ReleasePolicy, ReleaseWish, Way
from ashore.data.releases.keeper import ReleaseKeeper


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
    with pytest.raises(NotFound, match="no previous release to roll back to"):
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
    with pytest.raises(Conflict, match="was already rolled back to chat-1; another rollback would return to chat-2"):
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
    house.keeper.fell("chat-2", "a host crashed", {"restarts": 1})
    assert house.weights() == {"chat-1": 1000}
    assert (house.state("chat-1"), house.state("chat-2")) == ("live", "standby")
    event = next(one for one in house.office.history(SYSTEM, alias="chat") if one.verb == "rollback")
    assert (event.release, event.actor, event.why, event.evidence["restarts"]) == (
        "chat-1",
        "system",
        "a host crashed",
        1,
    )
    house.keeper.fell("chat-1", "a host crashed", {})
    assert house.weights() == {"chat-2": 1000}, "whatever falls, what is warm answers"
    house.keeper.fell("chat-1", "hosts fell 3 times", {})
    assert house.state("chat-1") == "failed"
    house.keeper.fell("chat-2", "a host crashed", {})
    assert house.state("chat-2") == "live", "there is nothing else to answer"


def test_what_is_live_and_falls_gives_way_to_the_standby_and_not_to_a_candidate(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live")
    house.send(house.make(), "canary", share=100)
    house.keeper.fell("chat-2", "a host crashed", {})
    assert house.weights() == {"chat-1": 1000}
    assert [house.state(f"chat-{n}") for n in (1, 2, 3)] == ["live", "standby", "retired"]


def test_what_fell_and_is_left_to_its_operator_stays_live(house: House) -> None:
    house.up("chat=fake:echo")
    house.send(house.make(), "live", automatic=False)
    house.keeper.fell("chat-2", "a host crashed", {})
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
        "not among the models of ashore.toml",
    )
    assert house.adopt("embed=fake:random") == ()
    assert house.adopt("embed=fake:random", "chat=fake:echo") == ()
    assert house.weights() == {"chat-3": 1000}, "who comes back begins anew"


def test_a_reload_does_not_take_away_what_was_led_by_hand_and_a_start_says_so(house: House) -> None:
    house.up("chat=fake:echo", "embed=fake:random")
    house.office.set_alias(SYSTEM, "prod", {"chat-1": 1000})
    house.office.set_alias(SYSTEM, "both", {"chat-1": 250, "embed-1": 750})
    plan = house.plan("embed=fake:random")
    with pytest.raises(Conflict, match=r"(prod|both) still points to chat-1") as refused:
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
        with pytest.raises(Conflict, match="lacks the adapter tone: requests for chat:tone would be refused") as told:
            house.office.roll_out(SYSTEM, bare, way, override="a trial")
        assert "--drop-adapters tone" in told.value.hint
    house.office.roll_out(SYSTEM, bare, Way(goal="live"), override="a trial", drop_adapters=("tone",))
    house.keeper.warmed(bare)
    assert house.weights() == {bare: 1000}
    house.office.roll_back(SYSTEM, "chat", to="chat-2")
    assert house.weights() == {"chat-2": 1000}, "the way back asks nothing"
