"""Power that is lost at an operation of a backup: what was not synced is gone, and what was backed up is not."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from backup_rig import Rig, fill_home, same_files
from crash_disk import CrashDisk
from thrift import some_or_all

from ashore.control.backup.directory import DirectoryNode
from ashore.control.backup.disk import Disk
from ashore.core.errors import AshoreError


def rig_at(where: Path, disk: Disk) -> Rig:
    return Rig(where / "home", "2+1", [DirectoryNode(where / f"node-{index}", disk) for index in range(3)], stall_s=20)


def stopped(folder: Path, act: Callable[[Rig], object], stop_at: int | None) -> CrashDisk:
    """Do it on a fresh copy of `folder/kept`, at `folder/live`, and stop at an operation of the disk; None: at none."""
    live = folder / "live"
    shutil.copytree(folder / "kept", live)
    disk = CrashDisk(folder / "graveyard" / str(stop_at))
    rig = rig_at(live, disk)
    disk.stop_at = stop_at
    try:
        act(rig)
    except AshoreError:
        assert stop_at is not None
    return disk


EVERY = some_or_all("every", 5, 1)
"""Lose power at each fifth operation here, and at every one in `make test-full`."""


@EVERY
def test_power_may_be_lost_at_any_operation_of_a_backup_that_prunes(tmp_path: Path, every: int) -> None:
    live, kept = tmp_path / "live", tmp_path / "kept"
    rig = rig_at(live, Disk()).begin()
    first = fill_home(rig.root, num_bytes=60_000)
    second = {**first, "notes/large.bin": random.Random(9).randbytes(90_000)}
    rig.service.run(rig.contents)
    (rig.root / "notes/large.bin").write_bytes(second["notes/large.bin"])
    live.rename(kept)

    def back_up(stop_at: int | None) -> CrashDisk:
        return stopped(tmp_path, lambda rig: rig.service.run(rig.contents, keep=1), stop_at)

    operations = back_up(None).operations
    shutil.rmtree(live)
    newer = 0
    for stop_at in range(operations, 0, -every)[::-1]:
        back_up(stop_at).lose_power([live / f"node-{index}" for index in range(3)], random.Random(stop_at))
        rig = rig_at(live, Disk())
        rig.restore(live / "restored")
        newer += (live / "restored/notes/large.bin").read_bytes() == second["notes/large.bin"]
        if not newer:
            same_files(live / "restored", first)
        rig.service.run(rig.contents)
        assert rig.service.scrub().ok, stop_at
        rig.restore(live / "again")
        same_files(live / "again", second)
        shutil.rmtree(live)
    assert 0 < newer < operations


@EVERY
def test_power_may_be_lost_at_any_operation_of_a_repair(tmp_path: Path, every: int) -> None:
    live, kept = tmp_path / "live", tmp_path / "kept"
    rig = rig_at(live, Disk()).begin()
    files = fill_home(rig.root, num_bytes=60_000)
    rig.service.run(rig.contents)
    shards = sorted((live / "node-1/objects").rglob("*-*"))
    for shard in shards[::2]:
        shard.unlink()
    for shard in shards[1::2]:
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    assert len(shards) > 3
    live.rename(kept)

    def repair(stop_at: int | None) -> CrashDisk:
        return stopped(tmp_path, lambda rig: rig.service.scrub(), stop_at)

    operations = repair(None).operations
    assert operations > len(shards)
    shutil.rmtree(live)
    for stop_at in range(operations, 0, -every)[::-1]:
        repair(stop_at).lose_power([live / f"node-{index}" for index in range(3)], random.Random(stop_at))
        rig = rig_at(live, Disk())
        rig.service.scrub()
        assert rig.service.scrub().ok, stop_at
        shutil.rmtree(live / "node-0")
        rig.restore(live / "again")
        same_files(live / "again", files)
        shutil.rmtree(live)
