"""Any m nodes deleted, corrupted, away, full or cut off in the middle of a write: the home comes back bit for bit.

`python -m benchmarks.backup` takes 200 such cases, and 1,000 flipped bits.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from backup_rig import Rig, fill_home, harm_after, harm_before, same_files

from ashore.core.errors import AshoreError

CODES = ("2+1", "1+2", "3+1", "4+2")


@pytest.mark.parametrize("seed", range(24))
def test_a_home_comes_back_from_what_any_m_nodes_leave(tmp_path: Path, seed: int) -> None:

    rng = random.Random(seed)
    rig = Rig(tmp_path / "home", CODES[seed % len(CODES)], stall_s=0.3).begin()
    files = fill_home(rig.root, seed=seed, num_bytes=300_000)
    rig.service.run(rig.contents)
    victims = rng.sample(range(rig.code.n), rig.code.m)
    harms = {index: rng.choice(("deleted", "corrupted", "away", "full", "cut")) for index in victims}
    for index, harm in harms.items():
        harm_before(rig.twin(index), harm, rng)
    newer = {**files, "notes/large.bin": rng.randbytes(400_000)}
    (rig.root / "notes/large.bin").write_bytes(newer["notes/large.bin"])
    try:
        rig.service.run(rig.contents)
        expected = newer
    except AshoreError:  # more nodes failed than a quorum bears: the backup before still counts
        expected = files
    for index, harm in harms.items():
        harm_after(rig.twin(index), harm, rng)
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", expected)


@pytest.mark.parametrize("seed", range(40))
def test_a_scrub_finds_and_mends_a_flipped_bit(tmp_path: Path, seed: int) -> None:

    rng = random.Random(seed)
    rig = Rig(tmp_path / "home").begin()
    fill_home(rig.root, num_bytes=50_000)
    rig.service.run(rig.contents)
    twin = rig.twin(rng.randrange(3))
    name = rng.choice(sorted(name for name in twin.files if name.startswith("objects/")))
    whole = twin.files[name]
    bit = rng.randrange(8 * len(whole))
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    twin.files[name] = bytes(data)
    report = rig.service.scrub()
    assert [(finding.place, finding.file) for finding in report.findings] == [(twin.place, name)]
    assert report.ok and twin.files[name] == whole
    assert rig.service.scrub().findings == ()


def test_two_and_one_cost_half_as_much_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home").begin()
    files = fill_home(rig.root, num_bytes=8_000_000)
    report = rig.service.run(rig.contents)
    assert report.written_bytes <= 1.52 * sum(len(data) for data in files.values())


def test_a_node_that_was_set_back_is_told_and_does_not_win(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home").begin()
    fill_home(rig.root, seed=1, num_bytes=10_000)
    rig.service.run(rig.contents)
    old = dict(rig.twin(1).files)
    files = fill_home(rig.root, seed=2, num_bytes=10_000)
    rig.service.run(rig.contents)
    rig.twin(1).files = old
    told = rig.service.status()
    assert told.nodes[1].condition == "behind" and "was reset" in told.nodes[1].says
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)
    rig.service.run(rig.contents)
    assert [node.condition for node in rig.service.status().nodes] == ["good"] * 3


def test_an_empty_or_moved_node_is_not_filled_but_by_replace(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home").begin()
    fill_home(rig.root, num_bytes=10_000)
    rig.service.run(rig.contents)
    rig.twin(2).files.clear()
    rig.service.run(rig.contents)
    assert rig.twin(2).files == {}
    (empty,) = [node for node in rig.service.status().nodes if node.condition == "empty"]
    assert "the disk may not be mounted" in empty.says and "ashore backup replace" in empty.says
    assert rig.service.replace("node-2").ok
    assert rig.service.status().lost == "the loss of one node would lose nothing"
    rig.twin(0).system = "another file system"
    assert rig.service.status().nodes[0].condition == "moved"
    before = dict(rig.twin(0).files)
    rig.service.run(rig.contents)
    assert rig.twin(0).files == before


def test_two_backups_at_once_are_refused_and_a_clock_set_back_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home").begin()
    fill_home(rig.root, num_bytes=10_000)
    with rig.home.locked("run"), pytest.raises(AshoreError, match="backup"):
        rig.service.run(rig.contents)
    rig.service.run(rig.contents)
    rig.clock.advance(-1e9)
    files = fill_home(rig.root, seed=7, num_bytes=20_000)
    assert rig.service.run(rig.contents).generation == 2
    rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", files)
