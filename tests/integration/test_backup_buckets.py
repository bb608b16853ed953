"""A home backed up to buckets of a real S3 server, one of them dead, and restored by the installed command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from backup_rig import Rig, fill_home, same_files
from s3_server import KEYS
from store_making import pull_tiny

from ashore.control.backup import Node, open_node
from ashore.control.backup.bucket import BucketNode

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def login(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    words = {**KEYS, "AWS_ENDPOINT_URL": s3_url}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    return words


def killed(place: str, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Return the node of a place whose server does not answer any more."""
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        return BucketNode(place)


def test_a_home_in_three_buckets_bears_that_one_is_dead(
    tmp_path: Path, login: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [open_node(f"s3://models/home/{index}") for index in range(3)]
    rig = Rig(tmp_path / "home", "2+1", nodes, stall_s=30).begin()
    first = fill_home(rig.root, seed=1, num_bytes=21_000_000)  # longer than a part of an upload
    model = pull_tiny(rig.store, tmp_path)
    report = rig.service.run(rig.contents)
    assert (report.generation, report.worst) == (1, 3)
    alive = rig.nodes[nodes[1].place]
    rig.nodes[nodes[1].place] = killed(nodes[1].place, monkeypatch)
    store = rig.restore(tmp_path / "new")
    same_files(tmp_path / "new", first)
    assert store.resolve("tiny").digest == model.digest and store.verify().ok

    second = fill_home(rig.root, seed=2, num_bytes=300_000)
    report = rig.service.run(rig.contents)
    assert report.nodes == (0, 2) and report.worst == 2
    rig.restore(tmp_path / "newer", nodes=[nodes[0].place, nodes[2].place])
    same_files(tmp_path / "newer", second)

    rig.nodes[nodes[1].place] = alive
    assert rig.service.status().nodes[1].condition == "behind"
    assert all(finding.repaired for finding in rig.service.repair().findings)
    assert rig.service.scrub().findings == ()
    assert rig.service.status().worst == 3


def test_the_command_backs_up_to_buckets_and_folders_together(
    tmp_path: Path, login: dict[str, str], ashore: Run
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    files = fill_home(home, num_bytes=40_000)
    (home / "state.db").unlink()
    for name in ("audit/checkpoints.log", "audit/chains/cli/00000001.log", "audit-keys/signing-key.pem"):
        (home / name).unlink()  # the command writes its own
        del files[name]
    places = f"s3://models/both/a,{tmp_path / 'folder'},s3://models/both/b"
    for words in (("backup", "init", "--nodes", places), ("backup", "run")):
        done = ashore(*words, home=home, env=login)
        assert done.returncode == 0, done.stderr
    told = ashore("backup", "status", home=home, env=login)
    assert told.returncode == 0 and "the loss of one node would lose nothing" in told.stdout, told.stdout
    key = home / "backup-recovery-key"
    where = ("--nodes", places.partition(",")[2], "--key", str(key))
    done = ashore("backup", "restore", *where, home=tmp_path / "new", env=login)
    assert done.returncode == 0, done.stderr
    same_files(tmp_path / "new", files)
