"""A folder that cannot be made is refused with what is in its way and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import ashore
from ashore.cli.bootstrap import command_recorder
from ashore.core.errors import EnvironmentFault
from ashore.kit.folders import make_folder
from ashore.kit.recorder import Act
from ashore.kit.settings import Home


def test_a_folder_is_made_with_those_above_it_and_may_be_made_twice(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", mode=0o700)
    make_folder(tmp_path / "a" / "b", mode=0o700)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "a")
    make_folder(tmp_path / "link")
    make_folder(tmp_path / "link" / "c")
    assert (tmp_path / "a" / "c").is_dir()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("")
    with pytest.raises(EnvironmentFault, match="audit is a file; expected a directory") as told:
        make_folder(tmp_path / "audit")
    assert told.value.hint == "move it away, or name another directory"


def test_a_file_above_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("")
    with pytest.raises(
        EnvironmentFault, match=r"audit is a file; the directory .*/audit/chains/x cannot be created below"
    ):
        make_folder(tmp_path / "audit" / "chains" / "x")


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_link_to_nowhere_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "logs").symlink_to(tmp_path / "gone")
    with pytest.raises(EnvironmentFault, match=r"logs is a symbolic link to .*/gone, which does not exist") as told:
        make_folder(tmp_path / "logs" / below)
    assert told.value.hint == "create its target, or remove the link"


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(EnvironmentFault, match="loop is a symbolic link"):
        make_folder(tmp_path / "loop" / "deeper")


def test_a_place_without_a_disk_is_named() -> None:
    with pytest.raises(EnvironmentFault, match="/proc/x cannot be created: /proc accepts no directories"):
        make_folder(Path("/proc/x"))


@pytest.mark.parametrize("name", ["store", "run", "logs", "cache"])
def test_a_home_with_a_file_for_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(EnvironmentFault, match=f"{name} is a file"):
        Home(root=tmp_path).create()


@pytest.mark.parametrize("name", ["audit", "audit-keys"])
def test_an_audit_folder_that_is_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with (
        pytest.raises(EnvironmentFault, match=f"{name} is a file"),
        command_recorder(Home(root=tmp_path)) as recorder,
    ):
        recorder.record(Act(action="key:create", actor="system"))


def test_folders_are_made_in_one_way() -> None:
    """`mkdir(exist_ok=True)` tells `File exists` of a file in its way; `make_folder` says what is there."""
    source = Path(ashore.__file__).parent
    others = [file for file in source.rglob("*.py") if "exist_ok=True" in file.read_text(encoding="utf-8")]
    assert [str(file.relative_to(source)) for file in others] == ["kit/folders.py"]
