"""`ashore backup run` killed at any moment, and `restore` and `scrub` too: given again they come to their end."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from backup_rig import Rig, same_files
from commands import start_command
from thrift import some_or_all

from ashore.control.backup import open_node
from ashore.core.errors import HomeBusy
from ashore.kit.settings import Home

Run = Callable[..., subprocess.CompletedProcess[str]]


def written(home: Path, rng: random.Random) -> dict[str, bytes]:
    """Put files into a home, large ones and small ones, all new."""
    files = {f"notes/{number}": rng.randbytes(rng.choice((10, 40_000, 5_000_000))) for number in range(6)}
    for name, data in files.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(data)
        (home / name).chmod(0o600)
    return files


class Killer:
    """Starts a command again and again, and kills it at some share of the time that it takes."""

    def __init__(self, ashore: Run, *words: str, home: Path) -> None:
        ashore("--version", home=home)  # what forks commands starts with the first of them
        started_s = time.monotonic()
        done = ashore(*words, home=home)
        assert done.returncode == 0, done.stderr
        self._took_s = time.monotonic() - started_s
        self._words = words
        self.killed = 0

    def kill(self, share: float, *, home: Path) -> None:
        process = start_command(*self._words, home=home)
        try:
            process.wait(self._took_s * share)
            self._took_s *= 0.7
        except subprocess.TimeoutExpired:
            self.killed += 1
        process.kill()
        process.wait()


@some_or_all("rounds", 4, 60)
def test_a_backup_killed_at_any_moment_leaves_the_ones_before_and_goes_on(
    tmp_path: Path, ashore: Run, rounds: int
) -> None:
    rng = random.Random(rounds)
    home = tmp_path / "home"
    home.mkdir()
    rig = Rig(home, nodes=[open_node(str(tmp_path / f"node-{index}")) for index in range(3)]).begin()
    kept = written(home, rng)
    killer = Killer(ashore, "backup", "run", home=home)
    for number in range(rounds):
        newer = written(home, rng)
        killer.kill(rng.uniform(0.2, 1.0), home=home)
        before = rig.service.status()
        assert before.worst >= 2 or before.generation == rig.home.read().generation
        rig.restore(tmp_path / "before")  # what counts is whole: the one before, or the one that was killed late
        names = [files for files in (kept, newer) if (tmp_path / "before/notes/0").read_bytes() == files["notes/0"]]
        same_files(tmp_path / "before", names[0])
        done = ashore("backup", "run", home=home)
        assert done.returncode == 0, f"round {number}: {done.stderr}"
        rig.restore(tmp_path / "after")
        same_files(tmp_path / "after", newer)
        kept = newer
        for name in ("before", "after"):
            shutil.rmtree(tmp_path / name)
    assert killer.killed >= rounds // 2
    assert rig.service.scrub().findings == ()
    left = [path for index in range(3) for path in (tmp_path / f"node-{index}" / "tmp").glob("*")]
    assert len(left) <= 8 * killer.killed  # what was being written when it died
    assert not list((home / "backup" / "scratch").glob("*"))


@some_or_all("rounds", 4, 40)
def test_a_restore_killed_at_any_moment_does_not_start_and_goes_on(tmp_path: Path, ashore: Run, rounds: int) -> None:
    rng = random.Random(rounds)
    home, key = tmp_path / "home", tmp_path / "key"
    home.mkdir()
    rig = Rig(home, nodes=[open_node(str(tmp_path / f"node-{index}")) for index in range(3)]).begin()
    files = written(home, rng)
    rig.service.run(rig.contents)
    shutil.copy(rig.home.recovery_key, key)
    words = ("backup", "restore", "--nodes", ",".join(rig.nodes), "--key", str(key))
    killer = Killer(ashore, *words, home=tmp_path / "first")
    for number in range(rounds):
        target = tmp_path / f"new-{number}"
        target.mkdir()
        for _ in range(2):
            killer.kill(rng.uniform(0.2, 0.95), home=target)
        if Home(root=target).restoring.exists():
            with pytest.raises(HomeBusy, match="is not finished"):
                Home(root=target).create()
            done = ashore(*words, home=target)
            assert done.returncode == 0, done.stderr
        elif not (target / "notes").exists():  # killed before it began
            assert ashore(*words, home=target).returncode == 0
        same_files(target, files)
        shutil.rmtree(target)
    assert killer.killed >= rounds // 2


def hurt(nodes: list[Path], rng: random.Random) -> set[str]:
    """Delete some shards of the second node, and flip a bit in as many others; return which there were."""
    shards = sorted(path for path in (nodes[1] / "objects").rglob("*-*") if path.is_file())
    for number, shard in enumerate(shards):
        if number % 2:
            shard.unlink()
        else:
            data = bytearray(shard.read_bytes())
            data[rng.randrange(len(data))] ^= 1
            shard.chmod(0o600)
            shard.write_bytes(data)
    assert len(shards) > 8
    return {shard.name for shard in shards}


@some_or_all("rounds", 4, 40)
def test_a_repair_killed_at_any_moment_loses_nothing_and_goes_on(tmp_path: Path, ashore: Run, rounds: int) -> None:
    rng = random.Random(rounds)
    home, nodes = tmp_path / "home", [tmp_path / f"node-{index}" for index in range(3)]
    home.mkdir()
    rig = Rig(home, nodes=[open_node(str(node)) for node in nodes]).begin()
    for _ in range(3):
        files = written(home, rng)
        rig.service.run(rig.contents)
    hurt(nodes, rng)
    killer, found = Killer(ashore, "backup", "scrub", home=home), 0
    for number in range(rounds):
        shards = hurt(nodes, rng)
        for _ in range(2):
            killer.kill(rng.uniform(0.3, 0.98), home=home)
        rig.restore(tmp_path / "between")  # a repair that was cut off has made nothing worse
        same_files(tmp_path / "between", files)
        done = ashore("backup", "scrub", home=home)
        assert done.returncode == 0, f"round {number}: {done.stdout}{done.stderr}"
        found += "repaired" in done.stdout
        assert {path.name for path in (nodes[1] / "objects").rglob("*-*") if path.is_file()} == shards
        assert rig.service.scrub().findings == ()
        nodes[0].rename(tmp_path / "lost")  # what was repaired has to serve
        rig.restore(tmp_path / "after")
        same_files(tmp_path / "after", files)
        (tmp_path / "lost").rename(nodes[0])
        for name in ("between", "after"):
            shutil.rmtree(tmp_path / name)
    assert killer.killed >= rounds // 2 and found
