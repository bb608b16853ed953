"""A feed into a real rsyslog that is killed again and again: nothing is missing there, and its file proves that."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_notes import a_log, a_note
from feed_rig import Audited, a_feed, audited
from syslog_server import Rsyslog

from ashore.control.feeds.feeder import Feeder
from ashore.control.feeds.proof import prove
from ashore.control.feeds.receivers import open_receiver
from ashore.core.clock import SystemClock
from ashore.kit.egress import LOOPBACK, parse_allow
from ashore.kit.recorder import MemoryRecorder

KILLS = 20
RECORDS = 30_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Rsyslog]:
    server = Rsyslog(tmp_path)
    yield server
    server.kill()


def feeder_of(log: Audited, server: Rsyslog) -> Feeder:
    feed = a_feed(to=server.to, ca_file=str(server.ca))
    receiver = open_receiver(feed, parse_allow(LOOPBACK))
    return Feeder(feed, receiver, root=log.root, home=log.home, recorder=MemoryRecorder(), clock=SystemClock())


def until_sent(feeder: Feeder) -> None:
    until_s = time.monotonic() + 120
    while feeder.behind() or feeder.standing.failures:
        assert time.monotonic() < until_s, feeder.standing
        time.sleep(0.05)


def test_rsyslog_has_a_record_about_a_second_after_it_was_written(tmp_path: Path, server: Rsyslog) -> None:
    log = audited(tmp_path, 3)
    server.start()
    feeder = feeder_of(log, server).start()
    until_sent(feeder)
    writer = a_log(log.root, "control")
    writer.note(a_note())
    writer.settle(10)
    until_sent(feeder)
    writer.close()
    until_sent(feeder)
    feeder.close()
    server.stop()
    found = prove(server.out, log.keys)
    assert {one.chain for one in found.chains} == {"api-0", "control"} and found.ok, found.problems


def test_a_receiver_that_is_killed_twenty_times_lacks_nothing(tmp_path: Path, server: Rsyslog) -> None:
    log, dice = audited(tmp_path, 3), random.Random(7)
    server.start()
    feeder = feeder_of(log, server).start()
    writer = a_log(log.root, "control")
    done = threading.Event()

    def write() -> None:
        for number in range(RECORDS):
            writer.note(a_note(number))
            if number % 100 == 99:
                time.sleep(0.01)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    for number in range(KILLS):
        time.sleep(dice.uniform(0.0, 0.4))
        if number % 5 == 4:  # it hangs before it dies
            server.signal(signal.SIGSTOP)
            time.sleep(0.3)
        server.kill()
        server.start()
    thread.join()
    writer.settle(30)
    log.sign()
    until_sent(feeder)
    writer.close()
    log.sign()
    until_sent(feeder)
    feeder.close()
    server.stop()
    found = prove(server.out, log.keys)
    chain = next(one for one in found.chains if one.chain == "control")
    print(f"\n{chain.records:,} records, {chain.doubled:,} again, {feeder.standing.resent:,} sent again")
    assert found.ok, found.problems
    assert chain.first == 1 and chain.records == chain.last == chain.signed >= RECORDS
