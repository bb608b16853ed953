"""The schedule against each state: one of many that look queues a turn."""

from __future__ import annotations

import threading

from schedule_rig import Scheduled, hourly, scheduled

from ashore.core.clock import ManualClock
from ashore.kit.state import Database


def test_of_homes_that_look_at_the_same_moment_one_queues(database: Database) -> None:
    clock, begin = ManualClock(), threading.Barrier(4)
    entries = hourly(), hourly("learn run code")
    rigs = [scheduled(database, *entries, home=f"home-{n}", clock=clock) for n in range(4)]

    def look(rig: Scheduled) -> None:
        begin.wait(30)
        rig.look()
        rig.look()

    for expected in (1, 2):
        threads = [threading.Thread(target=look, args=(rig,)) for rig in rigs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(rigs[0].jobs()) == expected, "one, and no second one of the same operation beside it"
        for rig in rigs:
            rig.work()
