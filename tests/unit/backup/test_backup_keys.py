"""The recovery key: changed between backups, shown, lost, set back; and the home's own key, gone and brought back."""

from __future__ import annotations

from pathlib import Path

import pytest
from backup_rig import Rig, fill_home, same_files

from ashore.control.backup import find_backup
from ashore.control.backup.keys import read_recovery
from ashore.control.backup.recovery import CONFIRM_EVERY_S
from ashore.control.backup.vault import MARK
from ashore.core.errors import InvalidSpec, RecoveryKeyWrong, SealingKeyMissing, TooFewNodes


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "home").begin()


def opens(rig: Rig, recovery: bytes, *places: str) -> bool:
    try:
        find_backup(places or list(rig.nodes), recovery, opener=rig.nodes.__getitem__)
    except RecoveryKeyWrong:
        return False
    return True


def test_after_a_rekey_the_new_key_opens_every_backup_and_the_old_one_none(rig: Rig, tmp_path: Path) -> None:
    first = fill_home(rig.root, seed=1, num_bytes=10_000)
    rig.service.run(rig.contents)
    old = rig.recovery
    rig.service.rekey()
    second = fill_home(rig.root, seed=2, num_bytes=20_000)
    rig.service.run(rig.contents)
    assert rig.recovery != old
    for place in rig.nodes:
        assert not opens(rig, old, place)
    rig.restore(tmp_path / "first", generation=1)
    same_files(tmp_path / "first", first)
    rig.restore(tmp_path / "second")
    same_files(tmp_path / "second", second)


def test_a_rekey_needs_every_node_and_may_be_given_again(rig: Rig) -> None:
    fill_home(rig.root, num_bytes=10_000)
    rig.service.run(rig.contents)
    old = rig.recovery
    rig.twin(1).away = True
    with pytest.raises(TooFewNodes, match="a new recovery key needs every node"):
        rig.service.rekey()
    assert opens(rig, old, "node-0", "node-2")
    rig.twin(1).away = False
    rig.service.rekey()
    rig.service.rekey()
    assert opens(rig, rig.recovery) and not opens(rig, old)


def test_a_node_that_is_set_back_beyond_a_rekey_is_told_and_mended(rig: Rig, tmp_path: Path) -> None:
    files = fill_home(rig.root, num_bytes=10_000)
    rig.service.run(rig.contents)
    old, mark = rig.recovery, rig.twin(2).files[MARK]
    rig.service.rekey()
    rig.twin(2).files[MARK] = mark
    assert opens(rig, old)
    told = rig.service.status()
    assert "node-2 was reset: an older recovery key opens it; repair it with `ashore backup scrub`" in told.warnings
    with pytest.raises(RecoveryKeyWrong):
        rig.service.confirm(old)
    report = rig.service.scrub()
    assert [finding.place for finding in report.findings] == ["node-2"] and report.ok
    assert not opens(rig, old)
    rig.restore(tmp_path / "new", nodes=["node-1", "node-2"])
    same_files(tmp_path / "new", files)


def test_a_recovery_key_that_nobody_shows_is_asked_for_by_status_and_by_run(rig: Rig) -> None:
    fill_home(rig.root, num_bytes=10_000)
    kept = rig.recovery
    assert any("move it to a safe place" in note for note in rig.service.run(rig.contents).notes)
    rig.home.recovery_key.unlink()
    asked = "nobody has confirmed yet that the recovery key was stored"
    assert any(asked in line for line in rig.service.status().warnings)
    assert any(asked in note and "ashore backup rekey" in note for note in rig.service.run(rig.contents).notes)
    assert rig.service.confirm(kept) == ()
    assert not any("recovery key" in line for line in rig.service.status().warnings)
    assert not any("recovery key" in note for note in rig.service.run(rig.contents).notes)
    rig.clock.advance(CONFIRM_EVERY_S + 86_400)
    assert any("nobody has confirmed the recovery key for 181 days" in line for line in rig.service.status().warnings)
    last = [(act.action, act.outcome) for act in rig.recorder.acts if act.action == "backup:confirm"]
    assert last == [("backup:confirm", "allowed"), ("backup:confirm", "done")]


def test_a_wrong_recovery_key_is_refused_and_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    other = Rig(tmp_path / "other").begin()
    rig.home.recovery_key.unlink()
    with pytest.raises(RecoveryKeyWrong, match="does not open the backup"):
        rig.service.confirm(other.recovery)
    assert rig.home.read().confirmed_s == 0
    for index in range(3):
        rig.twin(index).away = True
    with pytest.raises(TooFewNodes, match="no node is available"):
        rig.service.confirm(other.recovery)


def test_a_home_that_lost_its_own_key_says_how_it_comes_back(rig: Rig, tmp_path: Path) -> None:
    files = fill_home(rig.root, num_bytes=10_000)
    rig.service.run(rig.contents)
    (rig.home.folder / "key").unlink()
    for ask in (lambda: rig.service.run(rig.contents), rig.service.status, rig.service.scrub):
        with pytest.raises(SealingKeyMissing) as caught:
            ask()
        assert "ashore backup confirm KEY_FILE" in caught.value.hint
    (told,) = rig.service.confirm(rig.recovery)
    assert told.endswith("it was restored")
    assert rig.service.run(rig.contents).generation == 2
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)


def test_a_lost_recovery_key_is_replaced_while_the_home_lives(rig: Rig, tmp_path: Path) -> None:
    files = fill_home(rig.root, num_bytes=10_000)
    rig.service.run(rig.contents)
    rig.home.recovery_key.unlink()
    rig.service.rekey()
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)


def test_a_recovery_key_that_others_may_read_is_refused_with_the_command_that_renews_it(tmp_path: Path) -> None:
    file = tmp_path / "recovery-key"
    file.write_text("x")
    file.chmod(0o644)
    with pytest.raises(InvalidSpec, match="expected 0600") as refused:
        read_recovery(file)
    assert refused.value.hint.endswith("ashore backup rekey")
