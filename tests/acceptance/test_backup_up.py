"""`ashore up` that backs its home up by itself: backups, scrubs and repairs while it serves, told in every place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from home_processes import processes_of
from served import Served, call
from waiting import eventually

CONFIG = """
[[model]]
name = "fake:echo"
alias = "chat"
"""

Start = Callable[..., Served]
Run = Callable[..., subprocess.CompletedProcess[str]]


def begun(home: Path, ashore: Run) -> list[Path]:
    """Begin the backup of an empty home on three folders beside it."""
    nodes = [home.parent / f"node-{index}" for index in range(3)]
    done = ashore("backup", "init", "--nodes", ",".join(map(str, nodes)), home=home)
    assert done.returncode == 0, done.stderr
    return nodes


def turns_of(server: Served) -> dict[str, dict[str, Any]]:
    """Return the last turn of each operation that the server queues by itself."""
    found = call(server, "GET", "/admin/v1/schedule", server.key)["items"]
    none = {"when": "", "ended": None, "says": "", "job": ""}
    return {"backup run": none, "backup scrub": none} | {one["name"]: one for one in found}


def scrub_pid(home: Path) -> int | None:
    """Return the process of an operation that works on the backup."""
    lock = home / "backup" / "lock"
    pids = {str(pid) for pid in processes_of(home, "ashore.cli.operation")}
    held = lock.read_text() if lock.exists() else ""
    return int(held.rpartition(" ")[2]) if held.startswith("scrub") and held.rpartition(" ")[2] in pids else None


def metrics_of(server: Served) -> str:
    asked = urllib.request.Request(f"{server.root_url}/metrics", headers={"authorization": f"Bearer {server.key}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_server_backs_up_scrubs_and_repairs_by_itself(served: Start, ashore: Run, tmp_path: Path) -> None:
    home = tmp_path / "home-0"  # where `served` has it
    home.mkdir()
    nodes = begun(home, ashore)
    server = served(config=CONFIG + "[backup]\nevery_s = 1\nscrub_every_s = 2\nkeep = 2\n")
    eventually(lambda: turns_of(server)["backup scrub"]["ended"], told=server.everything_said)

    told = ashore("backup", "status", home=home)
    assert "a backup every 1 s: " in told.stdout and "a scrub every 2 s: " in told.stdout, told.stdout
    assert "backup scrub" in ashore("job", "schedule", home=home).stdout

    shard = max((path for path in nodes[1].rglob("objects/*/*")), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    told_after = (
        r'ashore_backup_harms{what="repaired"} [1-9]',
        r'ashore_backup_nodes{what="spare"} 1\.0',
        r'ashore_backup_time_seconds{kind="scrub",what="due"} ',
    )
    for line in told_after:
        eventually(lambda line=line: re.search(line, metrics_of(server)), told=lambda: metrics_of(server))

    (home / "ashore.toml").write_text(CONFIG + "[backup]\nevery_s = 3600\n")
    reloaded = ashore("reload", home=home)
    assert reloaded.returncode == 0 and "~ [backup] every_s: " in reloaded.stdout, reloaded.stderr
    eventually(lambda: turns_of(server)["backup run"]["when"] == "every 60 min", told=server.everything_said)
    eventually(lambda: "due in 60 min" in ashore("backup", "status", home=home).stdout, told=server.everything_said)
    (home / "ashore.toml").write_text(CONFIG)
    assert ashore("reload", home=home).returncode == 0
    eventually(lambda: not turns_of(server)["backup run"]["when"], told=server.everything_said)
    assert "no server is running scheduled backups" in ashore("backup", "status", home=home).stdout

    assert server.stop() == 0
    verified = ashore("audit", "verify", home=home)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = ashore("audit", "search", "--action", "backup:scrub", "--json", home=home)
    assert '"repaired":1' in found.stdout.replace(" ", ""), found.stdout + found.stderr


def test_of_a_hand_and_a_server_that_back_up_at_once_one_is_told(served: Start, ashore: Run, tmp_path: Path) -> None:
    home = tmp_path / "home-0"  # where `served` has it
    home.mkdir()
    begun(home, ashore)
    (home / "notes").mkdir()
    (home / "notes" / "large.bin").write_bytes(os.urandom(30_000_000))
    server = served(config=CONFIG + "[backup]\nevery_s = 3600\nscrub_every_s = 1\nscrub_bytes_per_s = 100000\n")
    pid = eventually(lambda: scrub_pid(home), told=server.everything_said)
    assert isinstance(pid, int) and os.sched_getscheduler(pid) == os.SCHED_IDLE
    refused = ashore("backup", "run", home=home)
    assert refused.returncode != 0
    assert f"another process is using this backup: scrub, process {pid}" in refused.stderr, refused.stderr
    os.kill(pid, signal.SIGKILL)  # it is queued again, and goes on
    eventually(lambda: scrub_pid(home) not in (None, pid), told=server.everything_said)
    (home / "ashore.toml").write_text(CONFIG)
    assert ashore("reload", home=home).returncode == 0
    eventually(lambda: scrub_pid(home) is None, told=server.everything_said)
    assert ashore("backup", "run", home=home).returncode == 0


def test_a_state_in_postgres_is_not_backed_up_by_half_without_a_word(ashore: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "ashore.toml").write_text(
        CONFIG + '[settings]\nstate_url = "postgresql://db.bank/ashore"\n[backup]\nevery_s = 3600\n'
    )
    refused = ashore("up", "--config", str(home / "ashore.toml"), "--dry-run", home=home)
    assert refused.returncode == 2
    assert "the state database is in Postgres" in refused.stderr and "without_state = true" in refused.stderr
    by_hand = ashore("backup", "run", "--config", str(home / "ashore.toml"), home=home)
    assert by_hand.returncode == 2 and "--without-state" in by_hand.stderr, by_hand.stderr
