"""When runs begin by themselves, and that one is under way at a time over all nodes."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest

from ashore.config import parse_spec
from ashore.core import ManualClock
from ashore.errors import Conflict, InvalidSpec
from ashore.learning.keeper import LOOK_S, Ended, step
from ashore.learning.leases import LEASE_S, begin, holder_of, leased, see, turn_of
from ashore.learning.runs import end_pause, set_pause
from ashore.learning.turns import MOST_TRIES, Turn, When, moments, next_turn
from ashore.state import Database, execute
from ashore.state.sqlite import open_scratch

NIGHTLY = When(at="02:00", zone="Europe/Berlin")
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def at(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).timestamp() * 1000)


def test_a_night_is_once_a_date_also_where_clocks_are_changed() -> None:
    around = moments(NIGHTLY, at("2026-07-01T12:00+02:00"))
    assert around == (at("2026-07-01T02:00+02:00"), at("2026-07-02T02:00+02:00"))
    twice = When(at="02:30", zone="Europe/Berlin")  # on 2026-10-25 there are two of it
    assert moments(twice, at("2026-10-25T02:45+02:00"))[1] == at("2026-10-26T02:30+01:00")
    missing = moments(twice, at("2026-03-28T12:00+01:00"))[1]  # on 2026-03-29 there is none of it
    assert at("2026-03-29T01:00+01:00") <= missing <= at("2026-03-29T04:00+02:00")


def test_nights_that_were_missed_are_made_up_for_once() -> None:
    seen = at("2026-07-01T12:00+02:00")
    turn = Turn(model="chat", seen_ms=seen)
    found = next_turn(turn, NIGHTLY, fresh=9, now_ms=seen + HOUR_MS)
    assert found.due_ms == at("2026-07-02T02:00+02:00"), "the night before it was seen is none that it missed"
    week_later = seen + 7 * DAY_MS
    assert next_turn(turn, NIGHTLY, fresh=9, now_ms=week_later).due_ms == at("2026-07-08T02:00+02:00")
    begun = Turn(model="chat", seen_ms=seen, began_ms=week_later, state="done")
    assert next_turn(begun, NIGHTLY, fresh=9, now_ms=week_later + 1).due_ms == at("2026-07-09T02:00+02:00")


def test_examples_begin_a_run_and_the_status_says_what_lacks() -> None:
    turn = Turn(model="chat", seen_ms=0)
    found = next_turn(turn, When(at_examples=100), fresh=99, now_ms=DAY_MS)
    assert (found.due_ms, found.why) == (None, "99 of 100 new votes with texts")
    assert next_turn(turn, When(at_examples=100), fresh=100, now_ms=DAY_MS).due_ms == DAY_MS
    assert (NIGHTLY.words, When(at_examples=5).words) == ("at 02:00 Europe/Berlin", "at 5 new votes with texts")
    assert "by hand" in next_turn(turn, When(), fresh=10**6, now_ms=DAY_MS).why


def test_a_run_that_was_cut_off_goes_on_but_not_for_ever() -> None:
    cut = Turn(model="chat", seen_ms=0, began_ms=DAY_MS, state="running", tries=1)
    assert next_turn(cut, When(at_examples=10), fresh=0, now_ms=DAY_MS).due_ms == DAY_MS + 60_000
    often = Turn(model="chat", seen_ms=0, began_ms=DAY_MS, state="running", tries=MOST_TRIES)
    assert next_turn(often, When(at_examples=10), fresh=0, now_ms=DAY_MS).due_ms is None


def test_a_clock_that_was_set_back_keeps_no_night_away() -> None:
    now = at("2026-07-01T03:00+02:00")
    ahead = Turn(model="chat", seen_ms=0, began_ms=now + 30 * DAY_MS, state="done")
    assert next_turn(ahead, NIGHTLY, fresh=1, now_ms=now).due_ms == at("2026-07-01T02:00+02:00")


@pytest.fixture
def state() -> Iterator[Database]:
    state = open_scratch()
    yield state
    state.close()


def vote(state: Database, number: int, clock: ManualClock, model: str = "chat") -> None:
    texts = ("tenant", "account", "voter", "release", "rating", "tags", "digest", "key_id", "question", "answer")
    values: dict[str, object] = dict.fromkeys((*texts, "correction", "preferred", "said"), "x")
    values |= {"feedback_id": f"fb_{number}", "answer_id": str(number)}
    values |= {"model": model, "num_tokens": 1} | dict.fromkeys(
        ("answered_ms", "created_ms", "changed_ms"), int(clock.now_s() * 1000)
    )
    with state.write() as connection:
        execute(
            connection,
            f"INSERT INTO feedback ({', '.join(values)}) VALUES ({', '.join(f':{one}' for one in values)})",
            **values,
        )


def test_steps_begin_what_is_due_and_write_down_what_came_of_it(state: Database) -> None:
    clock, ran = ManualClock(), list[str]()

    def start(model: str) -> Ended:
        ran.append(model)
        return Ended(failed=False, says=f"{model}: released")

    def steps(number: int = 4) -> None:
        for _ in range(number):
            step(state, When(at_examples=2), clock, start)

    vote(state, 1, clock)
    steps()
    assert ran == []
    clock.advance(5)
    vote(state, 2, clock)
    with state.write() as connection:
        set_pause(connection, "chat", why="audit", paused_by="erin", now_ms=1)
    steps()
    assert ran == [], "what is paused begins no run"
    with state.write() as connection:
        end_pause(connection, "chat")
    clock.advance(5)
    steps()
    assert ran == ["chat"], "once, however often it is looked"
    with state.read() as connection:
        turn = turn_of(connection, "chat", now_ms=0)
    assert (turn.state, turn.says) == ("done", "chat: released")


def test_a_night_without_new_votes_begins_no_run(state: Database) -> None:
    clock, ran = ManualClock(), list[str]()

    def start(model: str) -> Ended:
        ran.append(model)
        return Ended(failed=False, says="ok")

    vote(state, 1, clock)
    step(state, NIGHTLY, clock, start)
    assert ran == [], "no night has passed"
    for _ in range(2):
        clock.advance(86_400)
        step(state, NIGHTLY, clock, start)
        assert ran == ["chat"]
    with state.read() as connection:
        assert turn_of(connection, "chat", now_ms=0).says == "no new votes"


def test_of_two_nodes_one_begins_a_turn(state: Database) -> None:
    seen = see(state, "chat", now_ms=1000)
    assert begin(state, seen, now_ms=2000) is not None
    assert begin(state, seen, now_ms=2000) is None and begin(state, seen, now_ms=2001) is None


def test_one_run_is_under_way_over_all_nodes(state: Database) -> None:
    clock = ManualClock()
    with leased(state, clock, owner="a", holder="node-a") as mine:
        with pytest.raises(Conflict, match="node-a"), leased(state, clock, owner="b", holder="node-b"):
            pytest.fail("two at once")
        vote(state, 1, clock)
        late = step(state, When(at_examples=1), clock, lambda model: pytest.fail("one is under way"))
        assert late == LOOK_S
        clock.advance(LEASE_S - 1)
        mine.renew()
        clock.advance(LEASE_S - 1)
        assert not mine.is_lost
        clock.advance(2)
        assert mine.is_lost, "a node that cannot renew it stops"
        with leased(state, clock, owner="b", holder="node-b"):
            mine.renew()
            assert mine.is_lost, "another one has it"
    with state.read() as connection:
        assert holder_of(connection, now_ms=int(clock.now_s() * 1000)) == ""


def test_a_clock_that_was_wrong_holds_up_no_other_node_and_keeps_no_lease(state: Database) -> None:
    clock, ahead = ManualClock(), ManualClock()
    ahead.jump(86_400)
    killed = leased(state, ahead, owner="a", holder="node-a")
    killed.__enter__().end()
    with state.read() as connection:
        assert holder_of(connection, now_ms=int(clock.now_s() * 1000)) == ""
    with leased(state, clock, owner="b", holder="node-b") as mine:
        clock.jump(-86_400)
        clock.advance(LEASE_S + 1)
        assert mine.is_lost, "by the clock that nobody sets"


def test_a_home_takes_over_what_it_left_when_it_was_killed(state: Database) -> None:
    clock = ManualClock()
    killed = leased(state, clock, owner="a", holder="node-a")
    killed.__enter__().end()
    with leased(state, clock, owner="a", holder="node-a") as lease:
        assert not lease.is_lost


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('at = "25:00"', "at"),
        ('at = "02:00"\nzone = "Europe/Atlantis"', "zone"),
        ('at = "02:00"\nzone = "../../etc/passwd"', "zone"),
    ],
)
def test_times_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        parse_spec(f"[learning]\nfeedback = true\n{text}\n")


def test_runs_without_votes_or_in_nobodys_name_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="takes no votes"):
        parse_spec('[learning]\nat = "02:00"\n')
    with pytest.raises(InvalidSpec, match="in whose name"):
        parse_spec('[learning]\nfeedback = true\nat = "02:00"\n')
