"""One contract for both ways in which a log's lines come to the disk: in its own process, and through a scribe."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from audit_notes import a_note, an_act, records

from ashore.audit import AuditLog, ChainName, ChainWriter, LogOptions, NoteForm, Record, ScribeWriter, verify_local
from ashore.audit.log import Writer
from ashore.audit.model import Sealed
from ashore.audit.scribe import Scribe
from ashore.audit.scribewire import Begun, Wire
from ashore.audit.scribewriter import MOST_FORMS
from ashore.audit.segments import segment_path, segments_of
from ashore.audit.writer import DAY_US, Draft
from ashore.errors import AuditUnavailable, HomeBusy

CHAIN = ChainName("api-0")
KINDS = {"in this process": ChainWriter, "through a scribe": ScribeWriter}
Open = Callable[..., Writer]


@pytest.fixture(params=list(KINDS), ids=lambda name: name.replace(" ", "-"))
def begin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[Writer] = []

    def one(**options: int) -> Writer:
        opened.append(KINDS[request.param](tmp_path, CHAIN, **options))
        return opened[-1]

    yield one
    for writer in opened:
        writer.close()


@pytest.fixture
def scribe(tmp_path: Path) -> Iterator[ScribeWriter]:
    writer = ScribeWriter(tmp_path, CHAIN)
    yield writer
    writer.close()


def told(root: Path) -> list[Record]:
    return [record for record in records(root) if record.kind != "chain"]


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # it was dead before, and has been replaced
        os.kill(pid, signal.SIGKILL)


def acts(first: int, behind: int) -> list[Draft]:
    return [Draft(DAY_US + n, n, an_act(n)) for n in range(first, behind)]


def test_every_kind_of_draft_is_on_the_disk_when_append_returns(begin: Open, tmp_path: Path) -> None:
    writer = begin()
    form = NoteForm(a_note(7, masked={"cn_id": 2}))
    sealed = Sealed(answer="YQ==", key_id="k1", prompt="cA==")
    writer.append(
        [
            Draft(DAY_US, 1, ("writer:start", {"pid": 7})),
            Draft(DAY_US + 1, 2, form, "req-一"),
            Draft(DAY_US + 2, 3, a_note(8, content=(b"secret", b"answer")), sealed=sealed),
            Draft(DAY_US + 3, 4, an_act(9, detail={"n": 3})),
            Draft(DAY_US + 4, 5, form, "req-2"),
        ]
    )
    found = records(tmp_path)
    assert [one.action for one in found] == [
        "segment:open", "writer:start", "model:infer", "model:infer", "key:create", "model:infer",
    ]  # fmt: skip
    assert [one.request_id for one in found[2:]] == ["req-一", a_note(8).request_id, "", "req-2"]
    assert found[3].content == sealed and found[4].detail == {"n": 3} and found[5].masked == {"cn_id": 2}
    assert [one.at_us - DAY_US for one in found] == [0, 0, 1, 2, 3, 4]
    assert (writer.head.segment, writer.head.seq) == (1, 6)
    report = verify_local(tmp_path, CHAIN)
    assert report.problem is None and report.last_seq == 6
    assert b"secret" not in segment_path(tmp_path, CHAIN, 1).read_bytes()


def test_both_write_the_same_bytes(tmp_path: Path) -> None:
    drafts = [*acts(0, 40), *(Draft(DAY_US + n, n, NoteForm(a_note(n)), f"r{n}") for n in range(40, 80))]
    for name, kind in KINDS.items():
        writer = kind(tmp_path / name, CHAIN, segment_bytes=5_000)
        for at in range(0, 80, 20):
            writer.append(drafts[at : at + 20])
        writer.close()
    here, there = (
        [segment_path(tmp_path / name, CHAIN, n).read_bytes() for n in segments_of(tmp_path / name, CHAIN)]
        for name in KINDS
    )
    assert here == there and len(here) > 2


def test_a_chain_goes_on_where_it_stood(begin: Open, tmp_path: Path) -> None:
    first = begin()
    first.append(acts(0, 3))
    first.close()
    with segment_path(tmp_path, CHAIN, 1).open("ab") as file:
        file.write(b"half a li")
    second = begin()
    assert second.torn_bytes == 9 and second.damaged_line == 0 and second.head.seq == 4
    second.append(acts(3, 5))
    assert [one.seq for one in records(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert verify_local(tmp_path, CHAIN).problem is None


def test_a_file_that_somebody_removed_is_refused_and_nothing_counts(begin: Open, tmp_path: Path) -> None:
    writer = begin()
    writer.append(acts(0, 2))
    path = segment_path(tmp_path, CHAIN, 1)
    kept = path.rename(path.with_suffix(".away"))
    for _ in range(2):
        with pytest.raises(AuditUnavailable, match="was removed while it was being written"):
            writer.append(acts(2, 4))
    kept.rename(path)
    writer.append(acts(2, 4))
    assert [one.resource for one in told(tmp_path)] == [f"key/ash_{n:08x}" for n in range(4)]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for kind in KINDS.values():
        with pytest.raises(AuditUnavailable, match="cannot be written"):
            kind(tmp_path / "file", CHAIN)


def test_a_chain_that_another_writes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ashore.audit import scribe

    holder = ChainWriter(tmp_path, CHAIN)
    monkeypatch.setattr(scribe, "TAKE_S", 0.05)
    with pytest.raises(HomeBusy, match="another process writes"):
        scribe.take(tmp_path, CHAIN, 1_000)
    holder.close()
    scribe.take(tmp_path, CHAIN, 1_000).close()


# --- a scribe that dies


def test_when_the_scribe_is_killed_at_rest_another_goes_on(scribe: ScribeWriter, tmp_path: Path) -> None:
    form = NoteForm(a_note(1))
    scribe.append([Draft(DAY_US, 0, form, "r0")])
    before = scribe.pid
    os.kill(before, signal.SIGKILL)
    scribe.append([Draft(DAY_US + 1, 1, form, "r1"), *acts(2, 4)])
    assert scribe.pid not in (before, 0)
    assert [one.request_id for one in told(tmp_path)][:2] == ["r0", "r1"] and len(told(tmp_path)) == 4
    assert verify_local(tmp_path, CHAIN).problem is None


@pytest.mark.parametrize("at", range(12))
def test_killed_in_the_middle_of_batches_it_loses_nothing_and_writes_nothing_twice(tmp_path: Path, at: int) -> None:
    """Big batches over small segments, and kills at moments spread over the writing of one."""
    scribe = ScribeWriter(tmp_path, CHAIN, segment_bytes=200_000)
    num, size = 0, 2_000
    for round_ in range(3):
        timer = threading.Timer(0.004 * at + 0.002 * round_, kill, (scribe.pid,))
        timer.start()
        scribe.append(acts(num, num + size))
        timer.join()
        num += size
    scribe.close()
    assert [one.resource for one in told(tmp_path)] == [f"key/ash_{n:08x}" for n in range(num)]
    assert verify_local(tmp_path, CHAIN).problem is None


def test_where_a_scribe_died_in_a_batch_and_the_next_refused_the_rest_nothing_is_written_twice(
    tmp_path: Path,
) -> None:
    class Unlucky(ScribeWriter):
        turns = 0

        def _sent(self, drafts: Sequence[Draft]) -> bool:
            self.turns += 1
            if self.turns == 2:
                raise AuditUnavailable("the disk is full")
            lived = super()._sent(drafts[:2] if self.turns == 1 else drafts)
            if self.turns == 1:
                kill(self.pid)
                return False
            return lived

    writer = Unlucky(tmp_path, CHAIN)
    batch = acts(0, 5)
    with pytest.raises(AuditUnavailable):
        writer.append(batch)
    writer.append(batch)
    writer.close()
    assert [one.at_us for one in told(tmp_path)] == [draft.at_us for draft in batch]


def test_what_the_dead_scribe_had_written_is_counted_over_a_new_segment(tmp_path: Path) -> None:
    writer = ChainWriter(tmp_path, CHAIN, segment_bytes=300)
    writer.append(acts(0, 1))
    known = writer.head.seq
    for n in range(1, 4):  # each closes a segment and begins another
        writer.append(acts(n, n + 1))
        assert writer.num_drafts_since(known) == n
    assert writer.num_drafts_since(writer.head.seq) == 0
    writer.close()


def test_the_first_scribe_of_a_log_does_not_read_the_record_back(tmp_path: Path) -> None:
    class Unread(ChainWriter):
        def num_drafts_since(self, seq: int) -> int:
            raise AssertionError("nobody knew of a record before")

    writer = Unread(tmp_path, CHAIN)
    writer.append(acts(0, 3))
    ours, its = socket.socketpair()
    Scribe(Wire(its), writer).begin(None)
    begun = Wire(ours).answer()
    assert isinstance(begun, Begun) and begun.num_since == 0 and begun.written.seq == 4
    writer.close()
    ours.close()
    its.close()


def test_a_scribe_writes_what_it_was_sent_when_its_log_is_killed(tmp_path: Path) -> None:
    """And the next writer of the chain waits for it."""
    program = textwrap.dedent(f"""
        import os, signal, sys
        sys.path[:0] = {sys.path!r}
        from pathlib import Path
        from audit_notes import an_act
        from ashore.audit import ChainName, ScribeWriter
        from ashore.audit.writer import DAY_US, Draft
        writer = ScribeWriter(Path(sys.argv[1]), ChainName("api-0"))
        writer._wire.send(writer._batch([Draft(DAY_US + n, n, an_act(n)) for n in range(4000)]))
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    writer = ScribeWriter(tmp_path, CHAIN)
    assert len(told(tmp_path)) == 4000 and writer.torn_bytes == 0
    writer.close()


def test_a_scribe_that_hangs_is_replaced_and_nothing_is_lost_or_written_twice(
    scribe: ScribeWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scribe.append(acts(0, 3))
    before = scribe.pid
    monkeypatch.setattr("ashore.audit.scribewriter.ANSWER_S", 1.0)
    kill(before)
    scribe.append(acts(3, 4))  # one that keeps the shorter patience
    os.kill(hung := scribe.pid, signal.SIGSTOP)
    scribe.append(acts(4, 9))
    assert scribe.pid not in (before, hung, 0)
    assert [record.resource for record in told(tmp_path)] == [an_act(n).resource for n in range(9)]
    assert verify_local(tmp_path, CHAIN).problem is None


def test_the_end_of_a_terminal_does_not_take_the_scribe_before_its_log(scribe: ScribeWriter, tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(scribe.pid, number)
    before = scribe.pid
    scribe.append(acts(0, 2))
    assert scribe.pid == before and len(told(tmp_path)) == 2


def test_more_forms_than_a_scribe_keeps_are_sent_anew(scribe: ScribeWriter, tmp_path: Path) -> None:
    forms = [NoteForm(a_note(n, prompt=f"p{n}")) for n in range(MOST_FORMS + 600)]
    order = [*range(len(forms)), *range(len(forms) - 1, -1, -1), 5, 5, 4_000, 0]
    for at in range(0, len(order), 500):
        scribe.append([Draft(DAY_US + n, n, forms[which], "r") for n, which in enumerate(order[at : at + 500], at)])
    assert [one.prompt for one in told(tmp_path)] == [f"p{which}" for which in order]


def test_a_log_over_a_scribe_keeps_its_bound_and_says_when_it_began_and_stopped(tmp_path: Path) -> None:
    log = AuditLog(ScribeWriter(tmp_path, CHAIN), options=LogOptions(gather_s=0.005)).start()
    for number in range(300):
        log.note(a_note(number))
        log.check()
        if number == 150:
            log.settle(5)
            os.kill(log._writer.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        time.sleep(0.0005)
    log.close()
    found = records(tmp_path)
    assert found[1].action == "writer:start" and found[-1].action == "writer:stop"
    assert [one.request_id for one in told(tmp_path)] == [a_note(n).request_id for n in range(300)]
