"""When a server backs up by itself: the rules, in cases."""

from __future__ import annotations

import pytest

from ashore.backup.timetable import ScrubSoFar, Timetable, Turn, is_due, next_s, standing
from ashore.core import human_seconds

DAY = 86_400.0


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (Turn(), 5.0),
        (Turn(began_s=100, ended_s=200, end="done"), 100 + DAY),
        (Turn(began_s=100, ended_s=100 + 2 * DAY, end="done"), 100 + 2 * DAY + DAY / 10),
        (Turn(began_s=100, end="running"), 160.0),
        (Turn(began_s=100, ended_s=200, end="failed", failures=1), 260.0),
        (Turn(began_s=100, ended_s=200, end="failed", failures=4), 680.0),
        (Turn(began_s=100, ended_s=200, end="failed", failures=40), 200 + DAY),
    ],
    ids=["first", "daily", "longer than a day", "cut off", "failed", "failed again", "fails for ever"],
)
def test_the_next_turn_begins(turn: Turn, expected: float) -> None:
    assert next_s(turn, DAY, first_s=5.0) == expected


def test_a_clock_that_was_set_back_does_not_stop_backups() -> None:
    table = Timetable(every_s=DAY, scrub_every_s=DAY, since_s=0, run=Turn(began_s=9e9, ended_s=9e9, end="done"))
    assert is_due(table, "run", 1_000_000.0)


def test_a_scrub_under_way_goes_on_unless_it_failed() -> None:
    so_far = ScrubSoFar(after="objects/x")
    table = Timetable(
        every_s=DAY, scrub_every_s=7 * DAY, since_s=0, scrub=Turn(began_s=10, end="running"), so_far=so_far
    )
    assert is_due(table, "scrub", 11.0)
    failed = table.ended("scrub", 20.0, failed=True, says="too few nodes")
    assert not is_due(failed, "scrub", 21.0) and is_due(failed, "scrub", 80.0)


def test_what_an_operator_reads() -> None:
    table = Timetable(every_s=DAY, scrub_every_s=7 * DAY, since_s=1000.0)
    now_s = 1000.0 + 3600
    table = table.begun("run", 1000.0).ended("run", 1060.0, failed=False, says="backup 3 on 3 of 3 nodes")
    run, scrub = standing(table, now_s, is_kept=True, is_busy=False)
    assert run == (
        "a backup every 24 h: the last one ended 59 min ago: backup 3 on 3 of 3 nodes; the next one is due in 23 h"
    )
    assert scrub == "a scrub every 7 days: none yet; the next one is due in 6.96 days"
    failed = table.begun("run", now_s).ended("run", now_s, failed=True, says="1 of 3 nodes work")
    assert (
        "the last one FAILED 0 s ago: 1 of 3 nodes work; the next one is due in 60 s"
        in standing(failed, now_s, is_kept=True, is_busy=False)[0]
    )
    running = table.begun("run", now_s)
    assert "under way since 0 s ago" in standing(running, now_s, is_kept=True, is_busy=True)[0]
    assert "the last one was interrupted" in standing(running, now_s, is_kept=True, is_busy=False)[0]
    gone = standing(table, now_s, is_kept=False, is_busy=False)
    assert gone[0] == "no server is running scheduled backups; from the last one that did:" and "is due" not in gone[1]


def test_spans_read_as_people_say_them() -> None:
    spans = [human_seconds(one) for one in (0.25, 80, 90, 5399, 5400, 100_000, 200_000)]
    assert spans == ["0.25 s", "80 s", "1.5 min", "90 min", "1.5 h", "28 h", "2.31 days"]
