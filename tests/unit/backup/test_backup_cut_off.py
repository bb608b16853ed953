"""A restore that is cut off at any point and given again."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from backup_rig import Rig, fill_home, same_files
from store_making import make_store, pull_tiny
from thrift import some_or_all

from ashore.control.backup import STAGING, Restore, find_backup
from ashore.control.backup import restoring as module
from ashore.core.errors import Conflict, HomeBusy
from ashore.kit.settings import Home


class Cut(Exception):
    """The end of a process."""


def restore(rig: Rig, target: Path, *, generation: int = 0) -> tuple[str, ...]:
    found = find_backup(list(rig.nodes), rig.recovery, opener=rig.nodes.__getitem__)
    one = Restore(found, told=lambda stage, done, total: None, generation=generation)
    return one.home(target, lambda: make_store(target)).notes


def cut_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let the process end at a rename of the restore; return a list with how many there were."""
    count = [0]
    real = os.replace

    def replace(old: object, new: object) -> None:
        count[0] += 1
        if count[0] == number:
            raise Cut
        real(old, new)  # type: ignore[call-overload]

    monkeypatch.setattr(module.os, "replace", replace)
    return count


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path / "home").begin()
    rig.first = fill_home(rig.root, seed=1, num_bytes=50_000)  # type: ignore[attr-defined]
    pull_tiny(rig.store, tmp_path)
    rig.service.run(rig.contents)
    return rig


@some_or_all("every", 4, 1)
def test_a_restore_may_be_cut_off_at_every_rename(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    with monkeypatch.context() as patch:
        count = cut_at(patch, 0)
        restore(rig, tmp_path / "whole")
    assert count[0] > 20
    for number in {1, *range(count[0], 0, -every)}:
        target = tmp_path / f"cut-{number}"
        with monkeypatch.context() as patch:
            cut_at(patch, number)
            with pytest.raises(Cut):
                restore(rig, target)
        with pytest.raises(HomeBusy, match="is not finished"):
            Home(root=target).create()
        restore(rig, target)
        same_files(target, rig.first)  # type: ignore[attr-defined]
        assert make_store(target).verify().ok and not (target / STAGING).exists()


@pytest.mark.parametrize("seed", range(6))
def test_a_restore_of_which_a_newer_backup_is_made_meanwhile_mixes_nothing(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    with monkeypatch.context() as patch:
        count = cut_at(patch, 0)
        restore(rig, tmp_path / "whole")
    number = random.Random(seed).randrange(1, count[0] + 1)
    with monkeypatch.context() as patch:
        cut_at(patch, number)
        with pytest.raises(Cut):
            restore(rig, tmp_path / "cut")
    second = fill_home(rig.root, seed=2, num_bytes=50_000)  # as long as the first, every file
    (rig.root / "notes/newer").write_bytes(b"newer")
    (rig.root / "notes/newer").chmod(0o600)
    rig.service.run(rig.contents)
    notes = restore(rig, tmp_path / "cut")
    went_on = any("this continued 1, which was begun" in note for note in notes)
    first: dict[str, bytes] = rig.first  # type: ignore[attr-defined]
    same_files(tmp_path / "cut", first if went_on else {**second, "notes/newer": b"newer"})
    assert (tmp_path / "cut/notes/newer").exists() is not went_on


def test_one_that_moved_in_already_is_not_mixed_with_another(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        count = cut_at(patch, 0)
        restore(rig, tmp_path / "whole")
    with monkeypatch.context() as patch:
        cut_at(patch, count[0])
        with pytest.raises(Cut):
            restore(rig, tmp_path / "cut")
    fill_home(rig.root, seed=2, num_bytes=50_000)
    rig.service.run(rig.contents)
    with pytest.raises(Conflict, match="a restore of backup 1 into") as caught:
        restore(rig, tmp_path / "cut", generation=2)
    assert "--generation 1" in caught.value.hint
    restore(rig, tmp_path / "cut", generation=1)
    same_files(tmp_path / "cut", rig.first)  # type: ignore[attr-defined]


def test_a_restore_says_that_what_was_revoked_since_then_is_back(rig: Rig, tmp_path: Path) -> None:
    fill_home(rig.root, num_bytes=10_000)
    rig.service.run(rig.contents)
    made = datetime.fromtimestamp(rig.service.kept()[0].created_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    assert any(made in note and "revoked" in note for note in restore(rig, tmp_path / "new"))
