"""What a server does by itself for its backup, over twins: turns, slices of a scrub, nodes that come back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from backup_rig import Rig, fill_home, same_files
from schedule_rig import Scheduled

from ashore.cli.bootstrap.operations import Shown
from ashore.cli.bootstrap.operations.backups import shown_repair, shown_run, shown_scrub
from ashore.control.backup import BackupSection
from ashore.control.backup import scheduled as module
from ashore.control.backup.home import Tally, _lock
from ashore.control.backup.scheduled import BackupSchedule, standing
from ashore.control.backup.vault import MARK
from ashore.data.jobs.operations.asks import ScrubIn
from ashore.data.jobs.schedule import AGAIN_S, Turn
from ashore.kit.state import Database
from ashore.kit.state.sqlite import open_scratch

RULES = BackupSection(every_s=3600, scrub_every_s=7200, scrub_bytes_per_s=10**12, keep=3)


class Kept:
    """A home whose backup is kept by itself, and how time goes by for it."""

    def __init__(self, root: Path, state: Database) -> None:
        self.rig = Rig(root)
        self.state = state
        self.keep = RULES.keep
        self.between: Callable[[], None] = lambda: None
        """What is done between two slices of a scrub."""
        self.slice_s = 300.0
        self.restart()

    def restart(self) -> None:
        """Start the server again."""
        self.source = BackupSchedule(self.rig.home, self.rig.clock, RULES, opener=self.rig.nodes.__getitem__)
        self.schedule = Scheduled(self.state, self.rig.clock, self.source, self.do)

    def do(self, name: str, asked: bytes) -> Shown:
        """Do an operation, as its job does."""
        service = self.rig.service
        match name:
            case "backup run":
                return shown_run(service.run(self.rig.contents, keep=self.keep), service.code)
            case "backup repair":
                return shown_repair(service.repair())
            case _:
                resume = msgspec.json.decode(asked, type=ScrubIn).unfinished
                return shown_scrub(service.scrub_all(resume=resume, slice_s=self.slice_s, between=self.between))

    def step(self, rules: BackupSection = RULES) -> float:
        self.source.rules, self.keep = rules, rules.keep
        return self.schedule.step()

    def after(self, seconds: float) -> None:
        """Let time pass, and everything be done that is due then."""
        self.schedule.after(seconds)

    @property
    def table(self) -> Tally:
        return self.rig.home.read_tally()

    def turn(self, word: str) -> Turn:
        return self.schedule.turn(f"backup {word}")

    def told(self, *, is_kept: bool = True) -> tuple[str, ...]:
        turns = [self.turn(word) for word in ("repair", "run", "scrub")]
        return standing(turns, self.schedule.queue.now_ms(), is_kept=is_kept)


@pytest.fixture
def state() -> Iterator[Database]:
    state = open_scratch()
    yield state
    state.close()


@pytest.fixture
def kept(tmp_path: Path, state: Database) -> Kept:
    kept = Kept(tmp_path / "home", state)
    kept.rig.begin()
    fill_home(kept.rig.root, num_bytes=40_000)
    return kept


def test_a_backup_is_made_at_its_time_and_not_before(kept: Kept) -> None:
    kept.step()
    assert kept.turn("run").state == "done" and kept.turn("run").says.startswith("backup 1 on 3 of 3 nodes")
    kept.after(3599)
    assert kept.rig.home.read().generation == 1
    kept.after(1)
    assert kept.rig.home.read().generation == 2
    assert kept.told(is_kept=False)[0] == "no server is running scheduled backups; from the last one that did:"
    run, scrub = kept.told()
    assert run.startswith("a backup every 60 min: the last one ended 0 s ago: backup 2 on 3 of 3 nodes; ")
    assert run.endswith("; the next one is due in 60 min")
    assert scrub == "a scrub every 2 h: none yet; the next one is due in 60 min"
    acts = [(act.action, act.actor) for act in kept.schedule.recorder.acts]
    assert acts == [("backup:run", "system")] * 2


def test_waits_end_at_what_is_due_next(kept: Kept) -> None:
    kept.step()
    kept.rig.clock.advance(3590)
    assert kept.step() == pytest.approx(10)


def test_a_scrub_comes_at_its_time_repairs_and_is_told(kept: Kept) -> None:
    kept.step()
    twin = kept.rig.twin(1)
    name = next(name for name in sorted(twin.files) if name.startswith("objects/"))
    whole = twin.files[name]
    twin.files[name] = whole[:200] + bytes((whole[200] ^ 1,)) + whole[201:]
    kept.after(7199)
    assert twin.files[name] != whole
    kept.after(1)
    assert twin.files[name] == whole
    assert kept.table.found == kept.table.repaired == 1
    assert "1 fault found" in kept.turn("scrub").says and kept.turn("scrub").state == "done"
    (act,) = [act for act in kept.rig.recorder.acts if act.action == "backup:scrub"]
    assert (act.detail["found"], act.detail["repaired"]) == (1, 1)


def test_a_scrub_goes_in_slices_between_which_a_backup_comes(kept: Kept) -> None:
    kept.slice_s = 0.0  # one object each
    kept.step()
    kept.rig.clock.advance(7200)
    kept.step()
    assert kept.rig.home.read().generation == 2
    slices: list[str] = []

    class Killed(BaseException):
        """The server is killed."""

    def between() -> None:
        slices.append(kept.table.reached)
        if len(slices) == 4:
            with kept.rig.home.locked("run"):  # a backup comes in between
                raise Killed

    kept.between = between
    kept.rig.clock.advance(7200)
    kept.schedule.look()
    (lease,) = [one for one in kept.schedule.lease() if one.job.kind == "backup scrub"]
    with pytest.raises(Killed):
        kept.schedule.settle(lease)
    assert kept.table.reached == slices[-1] != ""
    kept.restart()
    kept.schedule.queue.cancel(lease.job.job_id)
    before = len(slices)
    kept.between = lambda: slices.append(kept.table.reached)
    report = kept.rig.service.scrub_all(resume=True, slice_s=0.0, between=kept.between)
    assert kept.table.reached == "" and report.reached == "" and slices[before] > slices[before - 1]
    assert len(slices) > 6
    acts = [act for act in kept.rig.recorder.acts if act.action == "backup:scrub"]
    assert acts and kept.rig.home.read().scrubbed_s


def test_a_node_that_comes_back_is_filled_without_a_word(kept: Kept) -> None:
    kept.rig.twin(2).away = True
    kept.step()
    assert kept.table.away == (2,) and kept.source.away == {2} and kept.rig.service.status().worst == 2
    kept.after(module.GLANCE_EVERY_S)
    kept.rig.twin(2).away = False
    kept.after(module.GLANCE_EVERY_S)
    assert kept.table.away == () and kept.table.spare == 1
    told = kept.rig.service.status()
    assert (told.worst, told.generation, told.nodes[2].condition) == (3, 1, "good")
    assert "backup:repair" in [act.action for act in kept.rig.recorder.acts]


def test_a_node_that_was_damaged_mends_once_it_answers_well_again(kept: Kept) -> None:
    kept.step()
    mark = kept.rig.twin(0).files[MARK]
    kept.rig.twin(0).files[MARK] = b"\0" * len(mark)
    kept.after(3600)
    assert kept.rig.service.status().nodes[0].condition == "damaged" and kept.source.away == {0}
    kept.rig.twin(0).files[MARK] = mark
    kept.after(module.GLANCE_EVERY_S)
    assert kept.source.away == set() and kept.rig.service.status().worst == 3


def test_an_altered_mark_is_written_anew_where_the_rest_of_it_names_the_node(kept: Kept) -> None:
    kept.step()
    twin = kept.rig.twin(0)
    whole = twin.files[MARK]
    at = whole.index(b"envelope") + 20
    twin.files[MARK] = whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]
    kept.after(module.GLANCE_EVERY_S)
    assert kept.rig.service.status().nodes[0].condition == "good"
    kept.rig.restore(kept.rig.root.parent / "new", nodes=["node-0", "node-2"])


def test_an_empty_or_other_file_system_is_never_filled_by_itself(kept: Kept) -> None:
    kept.step()
    empty, other = kept.rig.twin(1), kept.rig.twin(2)
    files = dict(empty.files)
    empty.files.clear()
    other.system = "another file system"
    other.files = {MARK: other.files[MARK]}
    kept.after(module.GLANCE_EVERY_S)
    kept.after(7200)
    assert empty.files == {} and list(other.files) == [MARK]
    at = other.files[MARK].index(b"envelope") + 20  # nor where its mark is altered too
    other.files[MARK] = other.files[MARK][:at] + b"?" + other.files[MARK][at + 1 :]
    kept.after(module.GLANCE_EVERY_S)
    assert list(other.files) == [MARK] and kept.source.away == {1, 2}
    empty.files.update(files)  # mounted
    other.system = "fs-node-2"
    kept.after(3600)
    kept.after(module.GLANCE_EVERY_S)
    assert kept.source.away == set() and kept.rig.service.status().worst == 3


def test_a_backup_that_fails_is_told_and_tried_again(kept: Kept) -> None:
    kept.rig.twin(0).away = kept.rig.twin(1).away = True
    kept.step()
    turn = kept.turn("run")
    assert "1 of 3 nodes work" in turn.says and turn.failures == 1
    assert "the last one FAILED 0 s ago: " in kept.told()[0] and "the next one is due in 60 s" in kept.told()[0]
    kept.rig.twin(0).away = kept.rig.twin(1).away = False
    kept.after(AGAIN_S)
    assert kept.turn("run").state == "done" and kept.turn("run").failures == 0


def test_a_backup_that_lacks_a_node_is_made_and_no_failure(kept: Kept) -> None:
    kept.rig.twin(2).away = True
    kept.step()
    turn = kept.turn("run")
    assert (turn.state, turn.failures) == ("done", 0) and turn.says.startswith("backup 1 on 2 of 3 nodes")


def test_a_repair_that_mends_nothing_is_tried_less_and_less_often(kept: Kept) -> None:
    kept.rig.twin(2).away = True
    kept.step()
    kept.rig.twin(2).away, kept.rig.twin(2).room_bytes = False, 0  # back, and full
    for _ in range(200):
        kept.after(60)
    repairs = kept.schedule.done.count("backup repair")
    assert 5 <= repairs <= 10 and kept.turn("repair").failures == repairs
    kept.rig.twin(2).room_bytes = None
    kept.after(module.LONGEST_REPAIR_WAIT_S)
    assert kept.source.away == set() and kept.turn("repair").failures == 0


def test_a_job_waits_for_whoever_works_on_the_backup_by_hand(kept: Kept) -> None:
    with kept.rig.home.locked("run"):
        kept.step()
        assert kept.turn("run").state == "interrupted", "it waited in vain, which is no failure"
        assert not _lock_free(kept)
    kept.after(AGAIN_S)
    assert kept.turn("run").state == "done"


def _lock_free(kept: Kept) -> bool:
    with (kept.rig.home.folder / "lock").open("r+") as file:
        return _lock(file.fileno(), 0.2)


def test_new_intervals_hold_at_once(kept: Kept) -> None:
    kept.step()
    kept.rig.clock.advance(600)
    kept.step(BackupSection(every_s=600, scrub_every_s=7200, scrub_bytes_per_s=10**12, keep=1))
    assert kept.rig.home.read().generation == 2
    assert len([name for name in kept.rig.twin(0).files if name.startswith("commits/")]) == 1


def test_new_intervals_can_be_read_at_once_though_nothing_is_due(kept: Kept) -> None:
    for _ in range(3):
        kept.step()
    kept.step(BackupSection(every_s=86_400, scrub_every_s=90_000, scrub_bytes_per_s=10**12, keep=1))
    assert (kept.turn("run").plan, kept.turn("scrub").plan) == ("every 24 h", "every 25 h")
    kept.step(BackupSection())
    assert "no server is running scheduled backups" in kept.told()[0], "it is switched off"


def test_where_no_backup_was_begun_it_says_so_and_waits(
    tmp_path: Path, state: Database, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(tmp_path / "home", state)
    kept.step()
    kept.step()
    assert caplog.text.count("this home has no backup yet; create one: ashore backup init") == 1
    assert kept.schedule.jobs() == []
    kept.rig.begin()
    files = fill_home(kept.rig.root, num_bytes=10_000)
    kept.after(60)
    kept.rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)


def test_what_changes_of_a_node_is_logged_once(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.step()
    kept.rig.twin(1).away = True
    with caplog.at_level(logging.INFO, "ashore.backup"):
        for _ in range(3):
            kept.after(module.GLANCE_EVERY_S)
        kept.rig.twin(1).away = False
        kept.after(module.GLANCE_EVERY_S)
    assert caplog.text.count("node 1 is away: ") == 1 and caplog.text.count("node 1 is good: ") == 1
