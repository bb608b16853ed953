"""The writer and the log of a process: durable in order, rotated, resumed after death, refused on a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from audit_notes import a_log, a_note, an_act, records, write_chain
from waiting import eventually

from ashore.control.audit import verify_local
from ashore.core.errors import AuditUnavailable, HomeBusy
from ashore.data.audit import ChainName, ChainWriter, Query
from ashore.data.audit.canonical import decode
from ashore.data.audit.search import search
from ashore.data.audit.segments import LocalShelf, read_lines, segment_path, segments_of
from ashore.data.audit.writer import Draft
from ashore.kit.reserve import Reserve

CHAIN = ChainName("api-0")


def actions(root: Path) -> list[str]:
    return [record.action for record in records(root)]


def test_what_is_told_is_on_disk_when_settle_returns(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.note(a_note(1))
    log.record(an_act(2))
    log.settle(5)
    assert actions(tmp_path) == ["segment:open", "writer:start", "model:infer", "key:create"]
    assert [record.seq for record in records(tmp_path)] == [1, 2, 3, 4]
    assert log.head.seq == 4
    log.close()
    log.close()
    assert actions(tmp_path)[-1] == "writer:stop"


def test_it_is_there_within_the_bound_without_asking(tmp_path: Path) -> None:
    log = a_log(tmp_path, gather_s=0.01)
    log.settle(5)
    log.note(a_note(1))
    eventually(lambda: "model:infer" in actions(tmp_path))
    log.close()


def test_what_comes_while_a_batch_is_written_is_gathered_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, batches, append = a_log(tmp_path, gather_s=0.1), [], ChainWriter.append

    def counted(self: ChainWriter, drafts: Sequence[Draft]) -> None:
        batches.extend([1] * bool(drafts))
        append(self, drafts)

    log.settle(5)
    monkeypatch.setattr(ChainWriter, "append", counted)
    began = time.monotonic()
    for number in range(400):  # one always comes while another is written
        log.note(a_note(number))
        time.sleep(0.0005)
    log.settle(5)
    took_s = time.monotonic() - began
    assert 0 < len(batches) <= 2 + took_s / 0.1, "a sync for every few records"
    log.close()


def test_many_threads_lose_nothing_and_keep_their_order(tmp_path: Path) -> None:
    log = a_log(tmp_path)

    def tell(thread: int) -> None:
        for number in range(500):
            log.record(an_act(number, actor=f"t{thread}"))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    for number in range(4):
        told = [record.resource for record in records(tmp_path) if record.actor == f"t{number}"]
        assert told == [f"key/ash_{at:08x}" for at in range(500)]
    assert verify_local(tmp_path, CHAIN).problem is None


def test_a_chain_has_one_writer(tmp_path: Path) -> None:
    writer = ChainWriter(tmp_path, CHAIN)
    with pytest.raises(HomeBusy, match="api-0"):
        ChainWriter(tmp_path, CHAIN)
    writer.close()
    ChainWriter(tmp_path, CHAIN).close()


def test_segments_close_with_their_root_and_cannot_be_written(tmp_path: Path) -> None:
    write_chain(tmp_path, 100, segment_bytes=8_000)
    numbers = segments_of(tmp_path, CHAIN)
    assert len(numbers) > 3
    for number in numbers[:-1]:
        assert segment_path(tmp_path, CHAIN, number).stat().st_mode & 0o777 == 0o400
    report = verify_local(tmp_path, CHAIN)
    assert report.problem is None and report.segments == len(numbers)
    assert report.records == len(records(tmp_path)) == report.last_seq


def test_a_new_day_begins_a_new_segment(tmp_path: Path) -> None:
    from ashore.data.audit.writer import DAY_US, Draft

    writer = ChainWriter(tmp_path, CHAIN)
    writer.append([Draft(DAY_US - 1, 1, an_act(1))])
    writer.append([Draft(DAY_US, 2, an_act(2))])
    writer.append([Draft(DAY_US + 1, 3, an_act(3))])
    writer.close()
    assert segments_of(tmp_path, CHAIN) == [1, 2]


def test_a_chain_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for _ in range(3):
        write_chain(tmp_path, 5)
    assert segments_of(tmp_path, CHAIN) == [1]
    assert verify_local(tmp_path, CHAIN).problem is None
    assert [record.seq for record in records(tmp_path)] == list(range(1, 23))


@pytest.mark.parametrize("cut", [1, 2, 70, 150])
def test_a_torn_line_is_cut_and_said(tmp_path: Path, cut: int) -> None:
    write_chain(tmp_path, 5)
    path = segment_path(tmp_path, CHAIN, 1)
    line = path.read_bytes().splitlines(keepends=True)[-1]
    with path.open("ab") as file:
        file.write(line[: min(cut, len(line) - 1)])
    assert verify_local(tmp_path, CHAIN).torn_bytes > 0
    before = len(records(tmp_path))
    write_chain(tmp_path, 1)
    told = records(tmp_path)
    assert told[before].action == "writer:start" and told[before].detail["torn_bytes"] == min(cut, len(line) - 1)
    report = verify_local(tmp_path, CHAIN)
    assert report.problem is None and report.torn_bytes == 0


def test_a_death_in_the_first_line_of_a_segment_is_mended(tmp_path: Path) -> None:
    write_chain(tmp_path, 60, segment_bytes=8_000)
    last = segments_of(tmp_path, CHAIN)[-1]
    before = records(tmp_path)
    keep = [record for record in before if record.seq <= _last_seq(tmp_path, last - 1)]
    path = segment_path(tmp_path, CHAIN, last)
    path.write_bytes(path.read_bytes()[:40])
    write_chain(tmp_path, 5)
    report = verify_local(tmp_path, CHAIN)
    assert report.problem is None
    assert records(tmp_path)[: len(keep)] == keep


def _last_seq(root: Path, number: int) -> int:
    with segment_path(root, CHAIN, number).open("rb") as file:
        return decode(list(read_lines(file))[-1].body).seq


def test_nobody_writes_behind_a_line_that_was_changed(tmp_path: Path) -> None:
    write_chain(tmp_path, 10)
    path = segment_path(tmp_path, CHAIN, 1)
    damaged = path.read_bytes().replace(b'"alice@bank"', b'"mallory@bk"', 1)
    path.write_bytes(damaged)
    write_chain(tmp_path, 3)
    assert path.read_bytes() == damaged, "evidence is left as it is"
    assert segments_of(tmp_path, CHAIN) == [1, 2]
    problem = verify_local(tmp_path, CHAIN).problem
    assert problem is not None and problem.line == 3 and "hash" in problem.what
    assert any(record.detail.get("damaged_line") == 3 for record in records(tmp_path))


class FullDisk:
    """`os` of the writer, on a disk that is full for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, half: bool) -> None:
        self.full = False
        self._real = os.write
        self._half = half
        monkeypatch.setattr("ashore.data.audit.writer.os.write", self._write)

    def _write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.full:
            if self._half:
                self._real(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._real(descriptor, data)


@pytest.mark.parametrize("half", [True, False])
def test_a_full_disk_stops_the_service_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    monkeypatch.setattr("ashore.data.audit.log.RETRY_S", 0.02)
    disk = FullDisk(monkeypatch, half=half)
    log = a_log(tmp_path)
    log.note(a_note(1))
    log.settle(5)
    log.check()
    disk.full = True
    log.note(a_note(2))
    with pytest.raises(AuditUnavailable, match="No space left") as caught:
        log.settle(5)
    assert caught.value.http_status == 503 and "free some space" in caught.value.hint
    with pytest.raises(AuditUnavailable, match="No space left"):
        log.check()
    log.note(a_note(3))
    disk.full = False
    log.settle(5)
    log.check()
    log.close()
    report = verify_local(tmp_path, CHAIN)
    assert report.problem is None and report.torn_bytes == 0
    told = [record.request_id for record in records(tmp_path) if record.kind == "request"]
    assert told == [a_note(number).request_id for number in (1, 2, 3)]


def test_a_full_disk_has_room_for_acts_and_none_for_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.data.audit.log.RETRY_S", 0.02)
    reserve, root = tmp_path / "reserve", tmp_path / "audit"
    Reserve(tmp_path).make()
    write, room = os.write, True

    def full(descriptor: int, data: bytes | memoryview) -> int:
        if reserve.stat().st_size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    log = a_log(root)
    log.settle(5)
    monkeypatch.setattr("ashore.data.audit.writer.os.write", full)
    monkeypatch.setattr(Reserve, "take", lambda self: room and os.truncate(reserve, 8 << 20))
    room = False
    log.note(a_note(1))
    log.settle(5)
    with pytest.raises(AuditUnavailable, match="kept for administration"):
        log.check()
    log.check_acts()
    log.record(an_act(2))
    log.settle(5)
    assert actions(root)[-2:] == ["model:infer", "key:create"]
    monkeypatch.setattr("ashore.data.audit.writer.os.write", write)
    room = True
    eventually(lambda: not log.spends_reserve)
    log.check()
    log.close()


def test_a_stuck_disk_stops_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    real = os.fdatasync
    monkeypatch.setattr("ashore.data.audit.writer.os.fdatasync", lambda fd: (go.wait(10), real(fd))[1])
    log = a_log(tmp_path, patience_s=0.05)
    log.check()
    log.note(a_note(1))
    time.sleep(0.1)
    with pytest.raises(AuditUnavailable, match="slow or stuck"):
        log.check()
    with pytest.raises(AuditUnavailable, match="slow or stuck"):
        log.settle(0.05)
    go.set()
    log.settle(5)
    log.check()
    log.close()


@pytest.mark.parametrize("deed", ["remove", "replace", "cut", "append"])
def test_who_takes_the_file_away_stops_the_service(tmp_path: Path, deed: str) -> None:
    """An administrator who cannot switch the audit off removes its file under the server; nothing is answered then."""
    log = a_log(tmp_path)
    log.note(a_note(1))
    log.settle(5)
    path = segment_path(tmp_path, CHAIN, 1)
    data = path.read_bytes()
    if deed in ("remove", "replace"):
        path.unlink()
    if deed == "replace":
        path.write_bytes(data)
    if deed == "cut":
        os.truncate(path, len(data) // 2)
    if deed == "append":
        with path.open("ab") as file:
            file.write(data[:70])
    log.note(a_note(2))
    with pytest.raises(AuditUnavailable, match="while it was being written"):
        log.settle(5)
    with pytest.raises(AuditUnavailable):
        log.check()
    log.close()


def test_durable_waits_for_what_was_told_before(tmp_path: Path) -> None:
    log = a_log(tmp_path, durability="strict")
    assert log.strict

    async def tell() -> None:
        for number in range(20):
            log.note(a_note(number))
            await log.durable()
            assert records(tmp_path)[-1].request_id == a_note(number).request_id

    asyncio.run(tell())
    log.close()


def test_a_clock_set_back_is_recorded_and_order_stays(tmp_path: Path) -> None:
    from ashore.data.audit import AuditLog, LogOptions

    now = [1_700_000_000_000_000_000]
    log = AuditLog(ChainWriter(tmp_path, CHAIN), options=LogOptions(gather_s=0.0), clock_ns=lambda: now[0]).start()
    log.note(a_note(1))
    log.settle(5)
    now[0] -= 3_600_000_000_000
    log.note(a_note(2))
    log.close()
    told = records(tmp_path)
    jump = next(record for record in told if record.action == "clock:jump")
    assert -3_601_000_000 < int(jump.detail["by_us"]) < -3_599_000_000
    hits = search(LocalShelf(tmp_path), Query(kind="request"))
    assert [hit.record.request_id for hit in hits] == [a_note(2).request_id, a_note(1).request_id]
    assert hits[0].order_us >= hits[1].order_us, "sorted among other chains as if the clock had only run"
    assert verify_local(tmp_path, CHAIN).problem is None


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from audit_notes import a_log, a_note
log = a_log(Path(sys.argv[1]), segment_bytes=20_000)
for number in range(1_000_000):
    for at in range(7):
        log.note(a_note(number * 7 + at))
    log.settle(10)
    print(number * 7 + 6, flush=True)
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    support = str(Path(__file__).parents[2] / "support")
    for attempt in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), support], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(20 + 17 * attempt)]
        child.kill()
        acknowledged = int([*lines, *child.stdout.read().splitlines()][-1].strip() or lines[-1])
        child.wait()
        child.stdout.close()
        report = verify_local(tmp_path, CHAIN)
        assert report.problem is None
        told = [record.request_id for record in records(tmp_path) if record.kind == "request"]
        starts = [at for at, request_id in enumerate(told) if request_id == a_note(0).request_id]
        ours = told[starts[-1] :]
        assert ours[: acknowledged + 1] == [a_note(number).request_id for number in range(acknowledged + 1)]


def test_the_change_that_the_page_makes_is_found_whatever_the_log_holds(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "verify-the-audit.md").read_text()
    (line, old, new) = re.search(r"sed -i '(\d+)s/(.)/(.)/' /tmp/copy", page).groups()  # type: ignore[union-attr]
    write_chain(tmp_path, 3)
    segment = segment_path(tmp_path, CHAIN, 1)
    lines = segment.read_text().splitlines(keepends=True)
    at = int(line) - 1
    lines[at] = lines[at].replace(old, new, 1)
    segment.chmod(0o600)
    segment.write_text("".join(lines))
    problem = verify_local(tmp_path, CHAIN).problem
    assert problem is not None and problem.line == int(line)
