"""A feed moves on by what its receiver confirmed, and by nothing else."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from audit_notes import write_chain
from feed_rig import MemoryReceiver, a_feeder, audited

from ashore.control.audit import read_feeds
from ashore.control.feeds import feeder as feeder_module
from ashore.control.feeds.reading import SIGNED, Line
from ashore.core.clock import ManualClock
from ashore.core.errors import SourceUnreachable
from ashore.kit.recorder import Act, MemoryRecorder


def test_each_record_and_each_checkpoint_goes_out_once_and_in_order(tmp_path: Path) -> None:
    log, receiver = audited(tmp_path, chains=("api-0", "control")), MemoryReceiver()
    feeder = a_feeder(log, receiver)
    assert feeder.behind() > 80
    while feeder.tick():
        pass
    assert feeder.behind() == 0
    for chain in ("api-0", "control", SIGNED):
        numbers = [line.seq for line in receiver.got if line.chain == chain]
        assert numbers == list(range(1, len(numbers) + 1)) and numbers
    assert not feeder.tick() and feeder.standing.sent == len(receiver.got)


def test_an_attempt_without_end_is_noted_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that sends a byte of its answer at a time never fails, and takes nothing."""
    log, noted = audited(tmp_path), threading.Event()

    class Slow(MemoryReceiver):
        def deliver(self, lines: Sequence[Line]) -> None:
            assert noted.wait(60)
            super().deliver(lines)

    class Notes(MemoryRecorder):
        def record(self, act: Act, *, on: Any = None) -> None:
            super().record(act, on=on)
            if act.action == "feed:fail":
                noted.set()

    monkeypatch.setattr(feeder_module, "SILENT_S", 0.01)
    feeder = a_feeder(log, Slow(), recorder=Notes())
    feeder.tick()
    assert noted.is_set() and feeder.standing.good_us


def test_a_thread_of_a_feed_yields_to_those_that_answer(tmp_path: Path) -> None:
    ran: queue.SimpleQueue[int] = queue.SimpleQueue()

    class Asks(MemoryReceiver):
        def deliver(self, lines: Sequence[Line]) -> None:
            ran.put(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    feeder = a_feeder(audited(tmp_path), Asks()).start()
    try:
        assert ran.get(timeout=30) > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    finally:
        feeder.close()


def test_it_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    log, receiver = audited(tmp_path), MemoryReceiver()
    a_feeder(log, receiver).tick()
    write_chain(log.root, 5)
    again = MemoryReceiver()
    a_feeder(log, again).tick()
    assert again.got and not again.places & receiver.places
    assert min(line.seq for line in again.got) == max(line.seq for line in receiver.got if line.chain == "api-0") + 1


def test_what_a_receiver_had_only_in_memory_when_it_died_goes_out_again(tmp_path: Path) -> None:
    log, receiver, clock, recorder = audited(tmp_path), MemoryReceiver(), ManualClock(), MemoryRecorder()
    feeder = a_feeder(log, receiver, clock, recorder, settle_s=10)
    feeder.tick()
    everything = receiver.places
    receiver.dies()
    write_chain(log.root, 1)
    for _ in range(3):
        with pytest.raises(SourceUnreachable):
            feeder.tick()
    standing = feeder.standing
    assert (
        standing.failures == 3 and standing.silent_us and standing.error == "source_unreachable: the receiver is away"
    )
    receiver.away = False
    feeder.tick()
    assert everything < receiver.places and feeder.standing.resent == len(everything) and not feeder.standing.failures
    assert [act.action for act in recorder.acts] == ["feed:fail", "feed:recover"]


def test_what_was_confirmed_long_before_a_failure_is_not_sent_again(tmp_path: Path) -> None:
    log, receiver, clock = audited(tmp_path), MemoryReceiver(), ManualClock()
    feeder = a_feeder(log, receiver, clock, settle_s=10)
    feeder.tick()
    clock.advance(11)
    receiver.away = True
    write_chain(log.root, 1)
    with pytest.raises(SourceUnreachable):
        feeder.tick()
    receiver.away = False
    feeder.tick()
    assert feeder.standing.resent == 0


def test_a_rewind_sends_everything_again(tmp_path: Path) -> None:
    log, receiver = audited(tmp_path), MemoryReceiver()
    feeder = a_feeder(log, receiver)
    feeder.tick()
    num = len(receiver.got)
    feeder.rewind(0)
    assert feeder.behind() > 40
    feeder.tick()
    assert len(receiver.got) == 2 * num and feeder.standing.resent == num


def test_a_filtered_feed_leaves_out_and_links_what_it_sends(tmp_path: Path) -> None:
    log, receiver = audited(tmp_path), MemoryReceiver()
    a_feeder(log, receiver, only=("key:*",)).tick()
    sent = [line for line in receiver.got if line.chain == "api-0"]
    assert len(sent) == 4
    assert [line.after for line in sent] == [0, *(line.seq for line in sent[:-1])]


def test_an_unknown_receiver_begins_with_a_record_of_where_the_log_goes(tmp_path: Path) -> None:
    log, recorder = audited(tmp_path), MemoryRecorder()
    for to, begins in (("file:///tmp/a", 1), ("file:///tmp/a", 1), ("file:///tmp/b", 2)):
        feeder = a_feeder(log, MemoryReceiver(), recorder=recorder, to=to).start()
        feeder.close()
        feeder.tick()
        assert [act.action for act in recorder.acts] == ["feed:begin"] * begins
    assert recorder.acts[-1].detail["to"] == "file:///tmp/b"
    (standing,) = read_feeds(log.root)
    assert standing.to == "file:///tmp/b"


def test_lines_of_a_damaged_segment_are_counted_and_the_rest_goes_out(tmp_path: Path) -> None:
    log, receiver = audited(tmp_path), MemoryReceiver()
    first = log.root / "chains" / "api-0" / "00000001.log"
    lines = first.read_bytes().split(b"\n")
    lines[3] = b"f" * 64 + b" not a record"
    first.write_bytes(b"\n".join(lines))
    feeder = a_feeder(log, receiver)
    feeder.tick()
    assert feeder.standing.skipped == 2, "the damaged line, and the number that it had"
    assert feeder.behind() == 0
