"""`ashore up` that backs its home up by itself: backups, scrubs and repairs while it serves, told in every place."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

from home_processes import processes_of
from served import Served
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


def table_of(home: Path) -> dict[str, dict[str, object]]:
    path = home / "backup" / "schedule.json"
    return json.loads(path.read_text()) if path.exists() else {"run": {}, "scrub": {}}


def backup_pid(home: Path) -> int | None:
    return next(iter(processes_of(home, "ashore.cli.backupkeeper")), None)


def metrics_of(server: Served) -> str:
    asked = urllib.request.Request(f"{server.root_url}/metrics", headers={"authorization": f"Bearer {server.key}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_server_backs_up_scrubs_and_repairs_by_itself(served: Start, ashore: Run, tmp_path: Path) -> None:
    home = tmp_path / "home-0"  # where `served` has it
    home.mkdir()
    nodes = begun(home, ashore)
    server = served(config=CONFIG + "[backup]\nevery_s = 1\nscrub_every_s = 2\nkeep = 2\n")
    eventually(lambda: table_of(home)["scrub"].get("end") == "done", told=server.everything_said)

    told = ashore("backup", "status", home=home)
    assert "a backup every 1 s: " in told.stdout and "a scrub every 2 s: " in told.stdout, told.stdout
    pid = backup_pid(home)
    assert pid is not None and os.sched_getscheduler(pid) == os.SCHED_IDLE

    shard = max((path for path in nodes[1].rglob("objects/*/*")), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    log = home / "logs" / "backup.log"
    eventually(
        lambda: f"on {nodes[1]}" in log.read_text() and "repaired: " in log.read_text(), told=server.everything_said
    )
    told_after = (
        r'ashore_backup_harms{what="repaired"} [1-9]',
        r'ashore_backup_nodes{what="spare"} 1\.0',
        r'ashore_backup_time_seconds{kind="scrub",what="due"} ',
    )
    for line in told_after:  # written when the scrub has ended, a moment after its log
        eventually(lambda line=line: re.search(line, metrics_of(server)), told=lambda: metrics_of(server))

    nodes[2].rename(tmp_path / "unplugged")
    eventually(
        lambda: "is away" in log.read_text() or "is not available" in log.read_text(), told=server.everything_said
    )
    (tmp_path / "unplugged").rename(nodes[2])
    eventually(lambda: "lose nothing" in str(table_of(home)["run"]["says"]), told=server.everything_said)

    off = CONFIG + "[backup]\nevery_s = 3600\n"
    (home / "ashore.toml").write_text(off)
    reloaded = ashore("reload", home=home)
    assert reloaded.returncode == 0 and "~ [backup] every_s: " in reloaded.stdout, reloaded.stderr
    eventually(lambda: table_of(home).get("every_s") == 3600.0, told=server.everything_said)
    assert backup_pid(home) == pid
    eventually(lambda: "due in 60 min" in ashore("backup", "status", home=home).stdout, told=server.everything_said)
    (home / "ashore.toml").write_text(CONFIG)
    assert ashore("reload", home=home).returncode == 0
    eventually(lambda: backup_pid(home) is None, told=server.everything_said)
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
    eventually(lambda: table_of(home)["scrub"].get("end") == "running", told=server.everything_said)
    refused = ashore("backup", "run", home=home)
    pid = backup_pid(home)
    assert refused.returncode != 0
    assert f"another process is using this backup: scrub, process {pid}" in refused.stderr, refused.stderr
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # it is started again, and goes on
    eventually(lambda: backup_pid(home) not in (None, pid), told=server.everything_said)
    (home / "ashore.toml").write_text(CONFIG)
    assert ashore("reload", home=home).returncode == 0
    eventually(lambda: backup_pid(home) is None, told=server.everything_said)
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
