"""Two homes with one backup, and a node that does not tell the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from backup_rig import Rig, fill_home, same_files
from memory_node import MemoryNode, MemorySink, MemorySource

from ashore.control.backup import BackupHome, BackupService, HomeContents
from ashore.core.errors import Conflict, NotFound
from ashore.kit.recorder import MemoryRecorder


def test_a_restored_home_takes_over_when_it_is_told_and_the_other_one_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "old").begin()
    fill_home(rig.root, num_bytes=10_000)
    rig.service.run(rig.contents)
    store = rig.restore(tmp_path / "new")
    new = BackupService(BackupHome(tmp_path / "new"), rig.clock, MemoryRecorder(), opener=rig.nodes.__getitem__)
    contents = HomeContents(tmp_path / "new", store, tuple, state=tmp_path / "new/state.db", extra={})
    with pytest.raises(Conflict, match="was made by another home") as caught:
        new.run(contents)
    assert "ashore backup run --take-over" in caught.value.hint
    files = fill_home(tmp_path / "new", seed=5, num_bytes=20_000)
    assert new.run(contents, take_over=True).generation == 2
    assert new.run(contents).generation == 3
    with pytest.raises(Conflict, match="was made by another home"):
        rig.service.run(rig.contents)
    rig.restore(tmp_path / "third")
    same_files(tmp_path / "third", files)


class LyingNode(MemoryNode):
    """Takes everything and says that it is there, and serves what it had at one moment."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.told: dict[str, bytes] | None = None
        """What it serves under each name, an older file of the same length where there is one; None: it is honest."""

    def begin(self) -> None:
        self.told = dict(self.files)

    def put(self, name: str) -> MemorySink:
        return super().put(name)

    def open(self, name: str) -> MemorySource:
        if self.told is None:
            return super().open(name)
        fitting = [data for data in self.told.values() if len(data) == len(self.files.get(name, b""))]
        if name in self.told:
            fitting.insert(0, self.told[name])
        if not fitting:
            raise NotFound(f"{self.place}/{name} does not exist")
        source = super().open(name)
        source._data = fitting[0]
        return source


def liars(count: int) -> list[LyingNode]:
    return [LyingNode(f"node-{index}") for index in range(count)]


@pytest.mark.parametrize(("code", "liar"), [("2+1", 0), ("2+1", 1), ("2+1", 2), ("1+2", 1), ("4+2", 3)])
def test_old_shards_in_the_place_of_new_ones_are_seen_borne_and_made_again(
    tmp_path: Path, code: str, liar: int
) -> None:
    rig = Rig(tmp_path / "home", code, nodes := liars(int(code[0]) + int(code[2]))).begin()
    fill_home(rig.root, seed=1, num_bytes=300_000)
    rig.service.run(rig.contents)
    nodes[liar].begin()
    files = fill_home(rig.root, seed=2, num_bytes=300_000)
    rig.service.run(rig.contents)
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)
    report = rig.service.scrub()
    assert {finding.place for finding in report.findings} == {f"node-{liar}"}
    assert any(
        "belongs to another backup" in finding.what or "expected number" in finding.what for finding in report.findings
    )
    nodes[liar].told = None
    rig.service.scrub()
    assert rig.service.scrub().findings == ()


def test_an_old_commit_under_the_name_of_a_new_one_does_not_open(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home").begin()
    files: Mapping[str, bytes] = {}
    for seed in range(2):
        files = fill_home(rig.root, seed=seed, num_bytes=10_000)
        rig.service.run(rig.contents)
    node = rig.twin(0)
    node.files["commits/000000000002"] = node.files["commits/000000000003"] = node.files["commits/000000000001"]
    told = rig.service.status()
    assert told.generation == 2
    assert any("cannot be opened" in line for line in told.warnings)
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", dict(files))
    rig.service.run(rig.contents)
    assert rig.service.status().generation == 3


def test_a_node_that_keeps_nothing_it_takes_is_found_out_at_the_next_look(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home").begin()
    fill_home(rig.root, seed=1, num_bytes=10_000)
    rig.service.run(rig.contents)
    twin = rig.twin(2)
    before = dict(twin.files)
    files = fill_home(rig.root, seed=2, num_bytes=10_000)

    class Forgetful(dict[str, bytes]):
        def __setitem__(self, name: str, data: bytes) -> None:
            """Takes it, and forgets it."""

    twin.files = Forgetful(before)
    report = rig.service.run(rig.contents)
    assert report.worst == 2
    assert rig.service.status().lost == "the loss of one more node would lose the backup"
    rig.restore(tmp_path / "new", nodes=["node-0", "node-1"])
    same_files(tmp_path / "new", files)
