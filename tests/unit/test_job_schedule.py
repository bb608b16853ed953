"""What the server queues by itself: once for each time, one at a time, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from admin_app import AdminApp
from schedule_rig import Listed, good, hourly, scheduled

from ashore.cli.bootstrap.operations import Shown
from ashore.control.jobs.office import JobOffice
from ashore.control.jobs.schedule.keeping import FOLLOW_S, LOOK_S, UNTAKEN_S
from ashore.core.errors import HomeBusy, SourceUnreachable
from ashore.core.timespan import human_seconds
from ashore.data.authority import SYSTEM
from ashore.data.jobs.model import Interrupted
from ashore.data.jobs.schedule import AGAIN_S, Next, Turn, every
from ashore.kit.state import Database
from ashore.kit.state.sqlite import open_scratch

DAY = 86_400.0


@pytest.mark.parametrize(
    ("turn", "expected_s"),
    [
        (Turn(name="x"), 5),
        (Turn(name="x", began_ms=100_000, ended_ms=200_000, state="done"), 100 + DAY),
        (Turn(name="x", began_ms=100_000, ended_ms=int(100 + 2 * DAY) * 1000, state="done"), 100 + 2.1 * DAY),
        (Turn(name="x", began_ms=100_000, state="interrupted", tries=1), 160),
        (Turn(name="x", began_ms=100_000, state="interrupted", tries=3), 340),
        (Turn(name="x", began_ms=100_000, ended_ms=200_000, state="failed", failures=1), 260),
        (Turn(name="x", began_ms=100_000, ended_ms=200_000, state="failed", failures=4), 680),
        (Turn(name="x", began_ms=100_000, ended_ms=200_000, state="failed", failures=40), 200 + DAY),
    ],
    ids=[
        "first", "daily", "longer than a day", "cut off", "cut off again", "failed", "failed again", "fails for ever",
    ],
)  # fmt: skip
def test_the_next_turn_begins(turn: Turn, expected_s: float) -> None:
    assert every(turn, DAY, now_ms=int(5 * DAY * 1000), first_s=5.0).due_ms == expected_s * 1000


def test_a_clock_that_was_set_back_does_not_stop_turns() -> None:
    turn = Turn(name="x", began_ms=9 * 10**12, ended_ms=9 * 10**12, state="done")
    assert every(turn, DAY, now_ms=10**9).due_ms == 10**9


def test_spans_read_as_people_say_them() -> None:
    spans = [human_seconds(one) for one in (0.25, 80, 90, 5399, 5400, 100_000, 200_000)]
    assert spans == ["0.25 s", "80 s", "1.5 min", "90 min", "1.5 h", "28 h", "2.31 days"]


@pytest.fixture
def state() -> Iterator[Database]:
    state = open_scratch()
    yield state
    state.close()


def test_what_is_due_is_queued_once_and_its_end_is_written_down(state: Database) -> None:
    rig = scheduled(state, hourly())
    assert rig.look() == FOLLOW_S
    assert rig.look() == FOLLOW_S and len(rig.jobs()) == 1, "once, however often it is looked"
    (job,) = rig.jobs()
    assert (job.account, job.tenant, job.kind, job.state) == ("erin", "acme", "learn run", "queued")
    assert [act.action for act in rig.recorder.acts] == ["learning:write"], "the audit log has who asked for it"
    rig.work()
    assert rig.look() == LOOK_S
    turn = rig.turn("learn run chat")
    assert (turn.state, turn.says, turn.job_id, turn.plan) == ("done", "it went well", job.job_id, "every hour")
    assert turn.due_ms == turn.began_ms + 3_600_000 and turn.good_ms == turn.ended_ms
    rig.after(3 * 3600)
    assert len(rig.jobs()) == 2, "missed times are made up for once"


def test_one_of_an_operation_is_under_way_at_a_time(state: Database) -> None:
    rig = scheduled(state, hourly(), hourly("learn run code"))
    rig.look()
    rig.look()
    assert len(rig.jobs()) == 1
    rig.step()
    rig.step()
    assert [job.state for job in rig.jobs()] == ["succeeded", "succeeded"]


def test_a_killed_server_queues_nothing_twice_and_a_turn_without_a_job_is_repeated(state: Database) -> None:
    rig = scheduled(state, hourly())
    rig.look()
    job_id = rig.turn("learn run chat").job_id
    again = scheduled(state, hourly(), clock=rig.clock)  # started again
    again.look()
    assert len(again.jobs()) == 1
    again.queue.cancel(job_id)
    again.queue.store.delete(job_id)  # as if the process had died between writing down and queueing
    again.look()
    assert again.turn("learn run chat").state == "running"
    again.clock.advance(AGAIN_S)
    again.look()
    again.step()
    turn = again.turn("learn run chat")
    assert (turn.state, len(again.jobs()), turn.job_id != job_id) == ("done", 1, True)


def test_what_the_server_stopped_under_begins_again_after_a_pause(state: Database) -> None:
    rig = scheduled(state, hourly())
    for tries in (1, 2):
        rig.look()
        (lease,) = rig.lease()
        rig.queue.settle(lease, Interrupted(code="interrupted", message="the server stopped"))
        rig.look()
        turn = rig.turn("learn run chat")
        assert (turn.state, turn.tries, turn.failures) == ("interrupted", tries, 0)
        rig.clock.advance(AGAIN_S * 2 ** (tries - 1) - 1)
        rig.look()
        assert len(rig.jobs()) == tries
        rig.clock.advance(1)
    rig.step()
    assert (rig.turn("learn run chat").state, len(rig.jobs())) == ("done", 3)


def test_what_fails_is_told_and_repeated_and_what_is_busy_is_no_failure(state: Database) -> None:
    rig, faults = scheduled(state, hourly()), [SourceUnreachable("no node answers"), HomeBusy("in use by run")]

    def do(name: str, asked: bytes) -> Shown:
        if faults:
            raise faults.pop(0)
        return good(name, asked)

    rig.do = do
    rig.step()
    turn = rig.turn("learn run chat")
    assert (turn.state, turn.failures, turn.good_ms) == ("failed", 1, 0) and "no node answers" in turn.says
    rig.clock.advance(AGAIN_S)
    rig.step()
    assert (rig.turn("learn run chat").state, rig.turn("learn run chat").failures) == ("interrupted", 1)
    rig.clock.advance(AGAIN_S)
    rig.step()
    assert (rig.turn("learn run chat").state, rig.turn("learn run chat").failures) == ("done", 0)


@pytest.mark.parametrize(("ends_anyhow", "state_then"), [(True, "done"), (False, "failed")])
def test_a_result_that_is_not_good_ends_a_turn_or_not(state: Database, ends_anyhow: bool, state_then: str) -> None:
    rig = scheduled(state, hourly(ends_anyhow=ends_anyhow))
    rig.do = lambda name, asked: Shown(document=None, lines=("the gate refused it",), code=1)
    rig.step()
    assert (rig.turn("learn run chat").state, rig.turn("learn run chat").says) == (state_then, "the gate refused it")


def test_a_person_cancels_a_turn_and_the_next_one_comes_at_its_time(state: Database) -> None:
    rig = scheduled(state, hourly())
    rig.look()
    rig.queue.cancel(rig.turn("learn run chat").job_id)
    assert rig.look() == LOOK_S
    turn = rig.turn("learn run chat")
    assert (turn.state, turn.good_ms) == ("done", 0) and "cancelled" in turn.says


def test_a_job_that_no_worker_takes_keeps_no_other_home_from_the_turn(state: Database) -> None:
    gone = scheduled(state, hourly(), home="gone")
    gone.look()
    here = scheduled(state, hourly(), home="here", clock=gone.clock)
    here.look()
    assert len(here.jobs()) == 1
    here.clock.advance(UNTAKEN_S + 1)
    for _ in range(2):
        here.look()
        here.clock.advance(AGAIN_S)
    assert [job.kind for job in here.jobs() if not job.final] == ["learn run@here"]


def test_rights_are_those_of_who_asks_and_ashore_itself_needs_none(state: Database) -> None:
    rig = scheduled(state, hourly())
    rig.rights.denied = "erin"
    rig.look()
    turn = rig.turn("learn run chat")
    assert (turn.state, rig.jobs()) == ("failed", []) and "erin may not learning:write model/chat" in turn.says
    own = scheduled(state, hourly("learn run code", actor=SYSTEM))
    own.look()
    (job,) = own.jobs()
    assert (job.account, job.tenant) == ("system", "")


def test_what_is_switched_off_is_cancelled_and_has_no_next_time(state: Database) -> None:
    rig, other = scheduled(state, hourly(), home="a"), scheduled(state, home="b")
    rig.look()
    other.look()
    assert not rig.jobs()[0].final, "another home's job goes on"
    source = Listed()
    rig.schedule._sources[:] = [source]
    rig.look()
    rig.look()
    turn = rig.turn("learn run chat")
    assert (turn.plan, turn.due_ms, turn.state) == ("", None, "done") and "cancelled" in turn.says
    source.given = None  # it cannot run here, but elsewhere
    assert rig.look() == LOOK_S


def test_a_turn_is_skipped_in_writing(state: Database) -> None:
    def due(turn: Turn, now_ms: int) -> Next:
        return Next(due_ms=None if turn.began_ms else now_ms, skip="no votes")

    rig = scheduled(state, replace(hourly(), due=due))
    rig.look()
    assert (rig.turn("learn run chat").state, rig.turn("learn run chat").says, rig.jobs()) == ("done", "no votes", [])


def test_administrators_see_the_schedule(state: Database) -> None:
    rig = scheduled(state, hourly())
    rig.step()
    for role, status in (("system-administrator", None), ("developer", 403)):
        app = AdminApp(role)
        turns = rig.office.turns
        assert tuple(turns()) == ()
        app.desks["jobs"] = JobOffice(
            queue=rig.queue, rights=app.authority, recorder=app.recorder, turns=lambda: [rig.turn("learn run chat")]
        )
        found = app.ask("GET", "/admin/v1/schedule")
        assert found.get("status") == status
        if status is None:
            (one,) = found["items"]
            assert (one["name"], one["when"], one["last"], one["says"]) == (
                "learn run chat", "every hour", "done", "it went well",
            )  # fmt: skip
            assert one["due"] > one["ended"] >= one["began"]
