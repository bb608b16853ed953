"""What a server does by itself for its backup, over twins: turns, slices of a scrub, nodes that come back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from backup_rig import Rig, fill_home, same_files

from ashore.backup import BackupSection, BackupService, HomeContents, Keeper
from ashore.backup import keeper as module
from ashore.backup.vault import MARK

RULES = BackupSection(every_s=3600, scrub_every_s=7200, scrub_bytes_per_s=10**12, keep=3)


class Work:
    """Implements `backup.Work` over a rig."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    @contextmanager
    def service(self) -> Iterator[BackupService]:
        yield self._rig.service

    def contents(self) -> HomeContents:
        return self._rig.contents


class Kept:
    """A home whose backup is kept by itself, and how time goes by for it."""

    def __init__(self, root: Path) -> None:
        self.rig = Rig(root)
        self.keeper = Keeper(self.rig.home, Work(self.rig), self.rig.clock, opener=self.rig.nodes.__getitem__)

    def step(self, rules: BackupSection = RULES) -> float:
        return self.keeper.step(rules)

    def after(self, seconds: float) -> None:
        """Let time pass, and everything be done that is due then."""
        self.rig.clock.advance(seconds)
        for _ in range(3):
            self.step()

    @property
    def table(self) -> module.Timetable:
        table = self.rig.home.read_timetable()
        assert table is not None
        return table


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    kept = Kept(tmp_path / "home")
    kept.rig.begin()
    fill_home(kept.rig.root, num_bytes=40_000)
    return kept


def test_a_backup_is_made_at_its_time_and_not_before(kept: Kept) -> None:
    kept.step()
    assert kept.table.run.end == "done" and kept.table.run.says.startswith("backup 1 on 3 of 3 nodes")
    kept.after(3599)
    assert kept.rig.home.read().generation == 1
    kept.after(1)
    assert kept.rig.home.read().generation == 2
    told = kept.rig.service.status()
    assert told.schedule[0] == "no server is running scheduled backups; from the last one that did:"
    with kept.rig.home.kept():
        assert "the next one is due in 60 min" in kept.rig.service.status().schedule[0]


def test_waits_end_at_what_is_due_next(kept: Kept) -> None:
    waits = [kept.step() for _ in range(3)]
    assert waits[0] == 0 and waits[1] == module.GLANCE_EVERY_S  # the nodes are looked at, then nothing is due
    kept.rig.clock.advance(3590)
    kept.step()
    assert kept.step() == pytest.approx(10)


def test_a_scrub_comes_at_its_time_repairs_and_is_told(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.step()
    twin = kept.rig.twin(1)
    name = next(name for name in sorted(twin.files) if name.startswith("objects/"))
    whole = twin.files[name]
    twin.files[name] = whole[:200] + bytes((whole[200] ^ 1,)) + whole[201:]
    with caplog.at_level(logging.INFO, "ashore.backup"):
        kept.after(7199)
        assert twin.files[name] != whole
        kept.after(1)
    assert twin.files[name] == whole
    assert kept.table.found == kept.table.repaired == 1
    assert "1 faults found" in kept.table.scrub.says
    assert "repaired: " in caplog.text and "on node-1" in caplog.text
    (act,) = [act for act in kept.rig.recorder.acts if act.action == "backup:scrub"]
    assert (act.detail["found"], act.detail["repaired"]) == (1, 1)


def test_a_scrub_goes_in_slices_between_which_a_backup_comes(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_S", 0.0)  # one object each
    kept.step()
    kept.rig.clock.advance(7200)
    kept.step()
    assert kept.rig.home.read().generation == 2
    slices = 0
    while kept.table.scrub.end != "done":
        slices += 1
        kept.step()
        if slices == 4:  # a server that is started again goes on where it was
            after = kept.table.so_far.after
            assert after
            kept.keeper = Keeper(kept.rig.home, Work(kept.rig), kept.rig.clock, opener=kept.rig.nodes.__getitem__)
            kept.rig.clock.advance(3600)
            kept.step()
            assert kept.rig.home.read().generation == 3
            assert kept.table.so_far.after == after
    assert slices > 6
    acts = [act for act in kept.rig.recorder.acts if act.action == "backup:scrub"]
    assert len(acts) == 1 and kept.rig.home.read().scrubbed_s


def test_a_node_that_comes_back_is_filled_without_a_word(kept: Kept) -> None:
    kept.rig.twin(2).away = True
    kept.step()
    assert kept.table.away == (2,) and kept.rig.service.status().worst == 2
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
    assert kept.rig.service.status().nodes[0].condition == "damaged" and kept.table.away == (0,)
    kept.rig.twin(0).files[MARK] = mark
    kept.after(module.GLANCE_EVERY_S)
    assert kept.table.away == () and kept.rig.service.status().worst == 3


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
    assert list(other.files) == [MARK] and kept.table.away == (1, 2)
    empty.files.update(files)  # mounted
    other.system = "fs-node-2"
    kept.after(3600)
    kept.after(module.GLANCE_EVERY_S)
    assert kept.table.away == () and kept.rig.service.status().worst == 3


def test_a_backup_that_fails_is_told_and_tried_again(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.rig.twin(0).away = kept.rig.twin(1).away = True
    with caplog.at_level(logging.ERROR, "ashore.backup"):
        kept.step()
    assert "1 of 3 nodes work" in caplog.text and kept.table.run.failures == 1
    kept.rig.twin(0).away = kept.rig.twin(1).away = False
    kept.after(60)
    assert kept.table.run.end == "done" and kept.table.run.failures == 0


def test_it_waits_for_whoever_works_on_the_backup_by_hand(kept: Kept) -> None:
    with kept.rig.home.locked("run"):
        assert kept.step() == module.BREATH_S
        assert kept.table.run.end == "never"
    kept.step()
    assert kept.table.run.end == "done"


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
    assert (kept.table.every_s, kept.table.scrub_every_s) == (86_400, 90_000)


def test_where_no_backup_was_begun_it_says_so_and_waits(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "home")
    assert kept.step() == module.GLANCE_EVERY_S
    assert kept.table.run.says == "this home has no backup yet; create one: ashore backup init"
    kept.rig.begin()
    files = fill_home(kept.rig.root, num_bytes=10_000)
    kept.after(60)
    kept.rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)
