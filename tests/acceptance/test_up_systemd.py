"""`ashore deploy render systemd`: the unit, lived through under a real systemd with all that it forbids in force."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_home import cache_root

ASHORE = Path(sys.executable).parent / "ashore"
RIG = Path(__file__).parents[1] / "support" / "under_systemd.py"
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--mount-proc", "--"]
LIKE_A_MACHINE = "mount --make-rprivate / && umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"

SPEC = """\
[http]
port = {port}
[grpc]
port = 0
[redis]
url = "embedded"
[[model]]
name = "smollm2"
alias = "m"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is neither in /tmp nor in a home of somebody where that can be had: those are hidden then."""
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix="systemd.") as made:
        yield Path(made)


def _unit(folder: Path, *words: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ASHORE_")}
    done = subprocess.run(
        [str(ASHORE), "deploy", "render", "systemd", *words],
        capture_output=True, text=True, timeout=60, cwd=folder, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.model
def test_under_systemd_it_starts_answers_reloads_recovers_and_stops(folder: Path, demo_home: Path) -> None:
    if not Path("/usr/lib/systemd/systemd").exists():
        pytest.skip("there is no systemd here")
    probe = subprocess.run([*NAMESPACES, "sh", "-c", LIKE_A_MACHINE], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"a systemd of our own needs root and namespaces: {probe.stderr.strip()}")
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    home = folder / "home"
    shutil.copytree(demo_home / "store", home / "store", copy_function=os.link)
    (folder / "ashore.toml").write_text(SPEC.format(port=port))
    unit = folder / "ashore.service"
    unit.write_text(
        _unit(folder, "--config", "ashore.toml", "--home", str(home), "--user", "root", "--offline"), encoding="utf-8"
    )
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")

    lived = subprocess.run(
        [*NAMESPACES, sys.executable, str(RIG), str(unit), str(port), str(home / "first-key")],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    logs = "".join(log.read_text() for log in (home / "logs").glob("*.log"))
    assert lived.returncode == 0, lived.stderr + logs
    seen = json.loads(lived.stdout)
    assert "started" in seen, f"{seen}\n{lived.stderr}\n{logs}"
    assert seen["started"]["ActiveState"] == "active"
    assert seen["started"]["StatusText"] == f"serving on http://127.0.0.1:{port}", "told when it answers, and where"
    assert "Paris" in seen["answer"], "the engine, its threads and Valkey work with all that is forbidden"
    assert seen["reload"] == 0
    written = {place for place, can in seen["outside"].items() if can}
    assert written <= {"/tmp"}, "the one in /tmp is in a /tmp of its own"
    assert not Path("/tmp/written-by-a-test").exists() or "PrivateTmp=yes" not in unit.read_text()
    assert "Paris" in seen["answer after a worker died"]
    assert seen["after a worker died"]["NRestarts"] == "0", "the supervisor sees to its own children"
    assert "Paris" in seen["answer after the supervisor died"]
    assert seen["after the supervisor died"]["NRestarts"] == "1"
    assert (seen["stopped"]["ActiveState"], seen["stopped"]["Result"]) == ("inactive", "success")


def test_the_unit_repeats_the_words_and_keeps_to_them(folder: Path) -> None:
    (folder / "ashore.toml").write_text(
        '[edge]\nkind = "envoy"\nport = 443\n[backup]\nnodes = ["/mnt/a", "/mnt/b", "/mnt/c"]\n'
    )
    lines = _unit(folder, "fake:echo?tok_per_s=20", "--config", "ashore.toml", "--workers", "2").splitlines()
    config = folder / "ashore.toml"
    assert f"ExecStart={ASHORE} up fake:echo?tok_per_s=20 --config {config} --workers 2" in lines
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in lines
    assert {f"ReadWritePaths=/mnt/{node}" for node in "abc"} <= set(lines)
    assert "StateDirectory=ashore" in lines


def test_a_key_in_somebodys_home_is_not_hidden_from_the_service(folder: Path) -> None:
    (folder / "ashore.toml").write_text('[sealing]\nkey = "keyring:/home/ann/keys"\n')
    lines = _unit(folder, "fake:echo", "--config", "ashore.toml").splitlines()
    assert "ProtectHome=read-only" in lines


def test_what_a_transit_engine_and_the_edge_read_is_not_hidden_either(folder: Path) -> None:
    for spec in (
        '[sealing]\nkey = "transit:https://vault:8200/v1/transit/keys/a?token_file=/home/ann/token"\n'
        '[egress]\nallow = ["vault:8200"]\n',
        '[edge]\nkind = "envoy"\ntls = "files"\ncertificate = "/home/ann/edge.pem"\nkey = "/home/ann/edge.key"\n',
    ):
        (folder / "ashore.toml").write_text(spec)
        lines = _unit(folder, "fake:echo", "--config", "ashore.toml").splitlines()
        assert "ProtectHome=read-only" in lines


@pytest.mark.parametrize(
    ("url", "waits"),
    [
        ("postgresql://ashore@localhost/ashore", True),
        ("postgresql://ashore@127.0.0.1:5433/ashore", True),
        ("postgresql:///ashore", True),
        ("postgresql://ashore@db.example.com/ashore", False),
    ],
)
def test_a_database_of_this_machine_is_started_first(folder: Path, url: str, waits: bool) -> None:
    (folder / "ashore.toml").write_text(f'[state]\nurl = "{url}"\n')
    unit = _unit(folder, "fake:echo", "--config", "ashore.toml")
    assert ("postgresql.service" in unit) is waits
