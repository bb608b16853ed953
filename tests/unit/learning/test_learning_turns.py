"""When runs begin by themselves, and that one is under way at a time over all nodes."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from schedule_rig import Scheduled

from ashore.cli.bootstrap.operations import Shown
from ashore.control.feedback import scheduled
from ashore.control.feedback.scheduled import LearningSchedule, next_turn
from ashore.core.clock import ManualClock
from ashore.core.errors import Conflict, InvalidSpec, Unauthenticated
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.feedback.leases import LEASE_S, holder_of, leased
from ashore.data.feedback.runs import end_pause, set_pause
from ashore.data.feedback.section import LearningSection
from ashore.data.feedback.turns import When, moments
from ashore.data.jobs.operations.asks import LearnIn
from ashore.data.jobs.schedule import MOST_TRIES, Turn
from ashore.kit.state import Database, execute
from ashore.kit.state.sqlite import open_scratch
from ashore.machine.config import parse_spec

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
    turn = Turn(name="chat", seen_ms=seen)
    found = next_turn(turn, NIGHTLY, fresh=9, now_ms=seen + HOUR_MS)
    assert found.due_ms == at("2026-07-02T02:00+02:00"), "the night before it was seen is none that it missed"
    week_later = seen + 7 * DAY_MS
    assert next_turn(turn, NIGHTLY, fresh=9, now_ms=week_later).due_ms == at("2026-07-08T02:00+02:00")
    begun = Turn(name="chat", seen_ms=seen, began_ms=week_later, state="done")
    assert next_turn(begun, NIGHTLY, fresh=9, now_ms=week_later + 1).due_ms == at("2026-07-09T02:00+02:00")


def test_examples_begin_a_run_and_the_status_says_what_lacks() -> None:
    turn = Turn(name="chat", seen_ms=0)
    found = next_turn(turn, When(at_examples=100), fresh=99, now_ms=DAY_MS)
    assert (found.due_ms, found.why) == (None, "99 of 100 new votes with texts")
    assert next_turn(turn, When(at_examples=100), fresh=100, now_ms=DAY_MS).due_ms == DAY_MS
    assert (NIGHTLY.words, When(at_examples=5).words) == ("at 02:00 Europe/Berlin", "at 5 new votes with texts")
    assert "by hand" in next_turn(turn, When(), fresh=10**6, now_ms=DAY_MS).why


def test_a_run_that_was_cut_off_goes_on_but_not_for_ever() -> None:
    cut = Turn(name="chat", seen_ms=0, began_ms=DAY_MS, state="interrupted", tries=1)
    assert next_turn(cut, When(at_examples=10), fresh=0, now_ms=DAY_MS).due_ms == DAY_MS + 60_000
    often = Turn(name="chat", seen_ms=0, began_ms=DAY_MS, state="interrupted", tries=MOST_TRIES)
    assert next_turn(often, When(at_examples=10), fresh=0, now_ms=DAY_MS).due_ms is None


def test_a_clock_that_was_set_back_keeps_no_night_away() -> None:
    now = at("2026-07-01T03:00+02:00")
    ahead = Turn(name="chat", seen_ms=0, began_ms=now + 30 * DAY_MS, state="done")
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


class Door:
    """Knows the keys of the accounts that own models."""

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        if token != "ash_erin":
            raise Unauthenticated("the key was revoked")
        return Principal(id="erin", tenant=TenantId("acme"), key_id="ash_1")


class Learner:
    """A server whose models learn by themselves."""

    def __init__(self, state: Database, when: When, key_file: Path) -> None:
        key_file.write_text("ash_erin\n")
        self.clock, self.ran = ManualClock(), list[str]()
        section = LearningSection(
            feedback=True, at=when.at, zone=when.zone, at_examples=when.at_examples, key_file=str(key_file)
        )
        self.source = LearningSchedule(state, Door(), section)
        self.schedule = Scheduled(state, self.clock, self.source, self.do)

    def do(self, name: str, asked: bytes) -> Shown:
        model = msgspec.json.decode(asked, type=LearnIn).model
        self.ran.append(model)
        return Shown(document=None, lines=(f"{model}: released",))

    def steps(self, number: int = 4) -> None:
        for _ in range(number):
            self.schedule.step()

    @property
    def turn(self) -> Turn:
        return self.schedule.turn("learn run chat")


@pytest.fixture(autouse=True)
def _libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduled, "LIBRARIES", ("msgspec",))


def test_steps_begin_what_is_due_and_write_down_what_came_of_it(state: Database, tmp_path: Path) -> None:
    one = Learner(state, When(at_examples=2), tmp_path / "key")
    vote(state, 1, one.clock)
    one.steps()
    assert one.ran == []
    one.clock.advance(5)
    vote(state, 2, one.clock)
    with state.write() as connection:
        set_pause(connection, "chat", why="audit", paused_by="erin", now_ms=1)
    one.steps()
    assert one.ran == [], "what is paused begins no run"
    with state.write() as connection:
        end_pause(connection, "chat")
    one.clock.advance(5)
    one.steps()
    assert one.ran == ["chat"], "once, however often it is looked"
    assert (one.turn.state, one.turn.says) == ("done", "chat: released")
    (job,) = one.schedule.jobs()
    assert (job.principal, job.tenant) == ("erin#key=ash_1", "acme"), "with the rights of that key, and no others"


def test_a_night_without_new_votes_begins_no_run(state: Database, tmp_path: Path) -> None:
    one = Learner(state, NIGHTLY, tmp_path / "key")
    vote(state, 1, one.clock)
    one.steps(1)
    assert one.ran == [], "no night has passed"
    for _ in range(2):
        one.clock.advance(86_400)
        one.steps(1)
        assert one.ran == ["chat"]
    assert one.turn.says == "no new votes"


def test_a_key_that_is_none_and_an_account_that_may_not_begin_no_run(state: Database, tmp_path: Path) -> None:
    one = Learner(state, NIGHTLY, tmp_path / "key")
    vote(state, 1, one.clock)
    one.steps(1)
    one.schedule.rights.denied = "erin"
    for what in ("erin may not learning:write model/chat", "the key was revoked", "key_file"):
        one.clock.advance(86_400)
        one.steps(2)
        assert (one.turn.state, one.ran) == ("failed", []) and what in one.turn.says
        (tmp_path / "key").write_text("ash_other") if what.startswith("erin") else (tmp_path / "key").unlink(
            missing_ok=True
        )


def test_where_the_libraries_are_not_no_turn_is_taken(
    state: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scheduled, "LIBRARIES", ("msgspec", "not_there"))
    one = Learner(state, When(at_examples=1), tmp_path / "key")
    vote(state, 1, one.clock)
    one.steps()
    assert one.schedule.jobs() == []
    assert caplog.text.count("no run begins here: not_there is not installed (the extra `train`)") == 1


def test_one_run_is_under_way_over_all_nodes(state: Database, tmp_path: Path) -> None:
    one = Learner(state, When(at_examples=1), tmp_path / "key")
    clock = one.clock
    with leased(state, clock, owner="a", holder="node-a") as mine:
        with pytest.raises(Conflict, match="node-a"), leased(state, clock, owner="b", holder="node-b"):
            pytest.fail("two at once")
        vote(state, 1, clock)
        one.steps()
        assert one.schedule.jobs() == [], "one is under way"
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
