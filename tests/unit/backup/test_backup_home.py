"""A home backed up and restored over twins: what comes back, what does not, and what is said."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from backup_rig import Rig, fill_home, same_files
from memory_keeper import MemoryKeeper
from store_making import pull_tiny

from ashore.core.errors import Conflict, CorruptBlob, NotFound, RecoveryKeyWrong, TooFewNodes
from ashore.kit.sealing import SecretFolder, opened_by_keeper


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "home").begin()


def test_a_home_comes_back_bit_for_bit_from_any_k_nodes(rig: Rig, tmp_path: Path) -> None:
    files = fill_home(rig.root)
    model = pull_tiny(rig.store, tmp_path)
    report = rig.service.run(rig.contents)
    assert (report.generation, report.worst) == (1, 3)
    for lost in range(3):
        left = [place for index, place in enumerate(rig.nodes) if index != lost]
        target = tmp_path / f"new-{lost}"
        store = rig.restore(target, nodes=left)
        same_files(target, files)
        assert store.resolve("tiny").digest == model.digest and store.verify().ok
        with sqlite3.connect(target / "state.db") as connection:
            assert connection.execute("SELECT value FROM fact").fetchall() == [("0",)]
        connection.close()
        assert not (target / "logs").exists() and not (target / "backup-recovery-key").exists()
        assert not (target / ".restoring").exists()


def test_sealed_keys_come_back_with_what_they_are_sealed_under(rig: Rig, tmp_path: Path) -> None:
    files, keeper = fill_home(rig.root, num_bytes=10_000), MemoryKeeper()
    SecretFolder(rig.root / "audit-keys").seal(("signing-key.pem",), keeper)
    rig.service.run(rig.contents)
    rig.restore(tmp_path / "new")
    found = SecretFolder(tmp_path / "new" / "audit-keys", opened_by_keeper(lambda: keeper))
    assert found.lies_sealed("signing-key.pem")
    assert found.read("signing-key.pem") == files["audit-keys/signing-key.pem"]


def test_keys_that_are_sealed_while_they_are_copied_are_copied_with_their_envelope(rig: Rig, tmp_path: Path) -> None:
    fill_home(rig.root, num_bytes=10_000)
    (rig.root / "audit-keys/digest-key").write_bytes(b"first")
    copied = {}
    for file in rig.contents.files(tmp_path / "scratch"):
        copied[file.path] = file.source.read_bytes()
        if file.path == "audit-keys/digest-key":
            SecretFolder(rig.root / "audit-keys").seal(("signing-key.pem", "digest-key"), MemoryKeeper())
    assert copied["audit-keys/digest-key"] == b"first"
    assert copied["audit-keys/signing-key.pem"].startswith(b"sealed:1:")
    assert "audit-keys/envelope.json" in copied


def test_a_second_backup_writes_what_is_new_alone(rig: Rig) -> None:
    fill_home(rig.root)
    first = rig.service.run(rig.contents)
    (rig.root / "notes" / "more").write_bytes(b"more")
    second = rig.service.run(rig.contents)
    assert second.generation == 2
    assert second.new_bytes < 50_000 < first.new_bytes


def test_older_backups_stay_as_long_as_they_are_kept(rig: Rig, tmp_path: Path) -> None:
    for number in range(1, 5):
        fill_home(rig.root, seed=number, num_bytes=10_000)
        rig.service.run(rig.contents, keep=3)
    with pytest.raises(NotFound, match="no backup 1") as caught:
        rig.restore(tmp_path / "first", generation=1)
    assert "2, 3, 4" in caught.value.hint
    rig.restore(tmp_path / "second", generation=2)
    assert (tmp_path / "second/notes/large.bin").read_bytes() == fill_home(tmp_path / "x", seed=2, num_bytes=10_000)[
        "notes/large.bin"
    ]
    for index in range(3):
        assert len([name for name in rig.twin(index).files if name.startswith("commits/")]) == 3


def test_every_backup_that_lies_there_is_listed_the_newest_first(rig: Rig, tmp_path: Path) -> None:
    assert rig.service.kept() == ()
    fill_home(rig.root)
    rig.service.run(rig.contents)
    pull_tiny(rig.store, tmp_path)
    rig.service.run(rig.contents)
    newest, first = rig.service.kept()
    assert (newest.generation, newest.models, newest.spare) == (2, ("tiny",), 1)
    assert (first.generation, first.models) == (1, ()) and first.clear_bytes < newest.clear_bytes
    rig.twin(1).away = True
    assert [one.spare for one in rig.service.kept()] == [0, 0]


def test_status_says_what_could_be_lost_and_warns_of_the_recovery_key(rig: Rig, tmp_path: Path) -> None:
    assert rig.service.status().lost == "there is no backup yet"
    fill_home(rig.root)
    rig.service.run(rig.contents)
    told = rig.service.status(rig.contents)
    assert told.lost == "the loss of one node would lose nothing"
    assert any("move it to a safe place" in line for line in told.warnings)
    pull_tiny(rig.store, tmp_path)
    rig.home.recovery_key.unlink()
    rig.twin(1).away = True
    told = rig.service.status(rig.contents)
    assert told.lost == "the loss of one more node would lose the backup"
    assert told.not_backed_up == ("tiny",)
    assert [node.condition for node in told.nodes] == ["good", "away", "good"]
    assert not any("move it to a safe place" in line for line in told.warnings)


def test_the_recovery_key_of_another_backup_is_refused_before_anything_is_read(rig: Rig, tmp_path: Path) -> None:
    from ashore.control.backup import find_backup

    fill_home(rig.root)
    rig.service.run(rig.contents)
    other = Rig(tmp_path / "other").begin()
    with pytest.raises(RecoveryKeyWrong, match="does not open"):
        find_backup(list(rig.nodes), other.recovery, opener=rig.nodes.__getitem__)


def test_a_home_that_is_not_empty_is_not_restored_into(rig: Rig, tmp_path: Path) -> None:
    fill_home(rig.root)
    rig.service.run(rig.contents)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/state.db").write_bytes(b"somebody's")
    with pytest.raises(Conflict, match="not empty: it has state"):
        rig.restore(tmp_path / "full")
    assert (tmp_path / "full/state.db").read_bytes() == b"somebody's"


def test_too_few_nodes_begin_nothing(rig: Rig) -> None:
    fill_home(rig.root)
    rig.service.run(rig.contents)
    rig.twin(0).away = rig.twin(1).away = True
    before = dict(rig.twin(2).files)
    with pytest.raises(TooFewNodes, match="1 of 3 nodes work, but a backup needs 2"):
        rig.service.run(rig.contents)
    assert rig.twin(2).files == before


def test_flipped_blocks_in_every_shard_are_borne_where_no_stripe_has_two(rig: Rig, tmp_path: Path) -> None:
    files = fill_home(rig.root, num_bytes=9_000_000)
    rig.service.run(rig.contents)
    largest = max(rig.twin(0).files, key=lambda name: len(rig.twin(0).files[name]))
    for index, stripe in ((0, 0), (1, 2), (2, 4)):
        flip(rig, index, largest, 152 + stripe * ((1 << 20) + 64 + 32) + 1000)
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)
    report = rig.service.scrub()
    assert report.ok and sorted(finding.place for finding in report.findings) == ["node-0", "node-1", "node-2"]
    assert rig.service.scrub().findings == ()


def test_what_the_nodes_have_lost_is_written_anew_from_the_home(rig: Rig, tmp_path: Path) -> None:
    files = fill_home(rig.root)
    rig.service.run(rig.contents)
    largest = max(rig.twin(0).files, key=lambda name: len(rig.twin(0).files[name]))
    flip(rig, 0, largest, 500)
    flip(rig, 1, largest, 600)
    report = rig.service.scrub()
    assert not report.ok
    assert {finding.belongs_to for finding in report.findings} == {"notes/large.bin"}
    assert rig.service.run(rig.contents).new_bytes > 5_000_000
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)


def flip(rig: Rig, index: int, name: str, offset: int, bit: int = 1) -> None:
    data = bytearray(rig.twin(index).files[name])
    data[offset] ^= bit
    rig.twin(index).files[name] = bytes(data)


def test_a_long_file_is_kept_once_and_one_that_changes_while_it_is_read_is_not_kept(rig: Rig, tmp_path: Path) -> None:
    files = fill_home(rig.root, num_bytes=9_000_000)
    (rig.root / "notes/same.bin").write_bytes(files["notes/large.bin"])
    report = rig.service.run(rig.contents)
    assert 9_000_000 < report.new_bytes < 9_500_000
    assert rig.service.run(rig.contents).new_bytes < 100_000

    def touch(stage: str, done: int, total: int) -> None:
        with (rig.root / "notes/large.bin").open("ab") as file:
            file.write(b"more")

    (rig.root / "notes/same.bin").unlink()
    (rig.root / "notes/large.bin").write_bytes(files["notes/large.bin"] + b"longer")
    with pytest.raises(CorruptBlob, match=r"notes/large\.bin was changed while it was backed up"):
        rig.service.run(rig.contents, told=touch)
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)
