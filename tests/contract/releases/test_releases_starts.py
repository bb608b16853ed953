"""What a start makes of releases, on every database: memory, what could not load, rows that cannot be read."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from release_house import GIB, House

from ashore.core.errors import Conflict, InvalidRequest, MemoryFull
from ashore.data.authority import SYSTEM
from ashore.data.releases import Way
from ashore.kit.state import execute
from ashore.machine.deployment import with_standing
from ashore.machine.planning import compare


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
    with pytest.raises(MemoryFull, match="beside the loaded releases"):
        house.office.roll_out(SYSTEM, name, Way(goal="live"))
    with pytest.raises(InvalidRequest, match="the live release answers meanwhile"):
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
    with pytest.raises(Conflict, match="another rollback would return to chat-2"):
        house.office.roll_back(SYSTEM, "chat")


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


def test_what_was_promoted_stays_in_a_reload_and_the_file_that_disagrees_is_said(house: House) -> None:
    house.up("chat=fake:echo", "embed=fake:echo")
    first, other = (
        house.plan("chat=fake:echo", "embed=fake:echo"),
        house.plan("chat=fake:echo?seed=9", "embed=fake:echo"),
    )
    assert house.keeper.standing() == {}
    assert house.send(house.make("fake:random"), "live") == "live"
    standing = house.keeper.standing()
    assert {alias: plan.release for alias, plan in standing.items()} == {"chat": "chat-2"}
    for after in (first, other):
        chat, embed = with_standing(compare(first, after), after, standing)
        assert (chat.kind, embed.kind) == ("keep", "keep")
        assert chat.what.startswith("chat-2, fake:random") and "ashore reload --take chat" in chat.what
        assert f"ashore.toml says {after.models[0].reference} " in chat.what
    served = replace(other, models=(standing["chat"], replace(other.models[1], release="embed-1")))
    house.keeper.adopt(served, asked=other)
    assert house.up("chat=fake:echo?seed=9", "embed=fake:echo") == {"chat": "chat-2", "embed": "embed-1"}, "a restart"
    assert {alias: plan.release for alias, plan in house.keeper.standing().items()} == {"chat": "chat-2"}
    (taken, _) = with_standing(compare(other, other), other, standing, ("chat",))
    assert taken.kind == "replace" and "(taken from ashore.toml)" in taken.what
    agreed = house.plan("chat=fake:random", "embed=fake:echo")
    (chat, _) = with_standing(compare(other, agreed), agreed, standing, ("chat",))
    assert chat.kind == "keep" and "ashore.toml" not in chat.what
    house.keeper.adopt(served, asked=agreed)
    assert house.keeper.standing() == {}, "the file has caught up, and the next change of it is taken"


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
    with pytest.raises(Conflict, match=r"someone created a release chat-2 of fake:random\?tokens=3 while fake:random"):
        house.keeper.adopt(plan)
    assert house.up("chat=fake:random") == {"chat": "chat-3"}


@pytest.mark.parametrize("column", ["document", "course"])
def test_a_release_whose_row_cannot_be_read_has_failed_and_nothing_else_suffers(house: House, column: str) -> None:
    house.up("chat=fake:echo", "embed=fake:random")
    house.send(house.make("good"), "live")
    with house.database.write() as connection:
        execute(connection, f"UPDATE release SET {column} = :torn WHERE name = 'chat-2'", torn='{"release": 7}')
    course = house.office.standing(SYSTEM, "chat-2").course
    assert course.state == "failed" and course.why.startswith("its entry in the state database cannot be read: ")
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


def test_a_start_with_another_cache_says_the_memory_that_it_takes_now(house: House) -> None:
    house.up("chat=fake:echo")
    plan = house.keeper.propose(house.plan("chat=fake:echo"))
    (model,) = plan.models
    larger = replace(model, options=msgspec.structs.replace(model.options, kv_tokens=999))
    house.workshop.needed[model.reference] = 5_000
    house.keeper.adopt(replace(plan, models=(larger,)))
    (wanted,) = house.keeper.wanted({"chat"})
    assert (wanted.plan.options.kv_tokens, wanted.needed_bytes) == (999, 5_000) and house.weights() == {"chat-1": 1000}
