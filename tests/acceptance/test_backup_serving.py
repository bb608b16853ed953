"""`ashore backup run` while the server takes requests, jobs and writes to its state: what is restored is one moment."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
from served import Served

Start = Callable[..., Served]
Run = Callable[..., subprocess.CompletedProcess[str]]

PAIRS = 50


def test_a_home_is_backed_up_while_it_serves_and_its_state_is_written(
    served: Start, ashore: Run, tmp_path: Path
) -> None:
    home = tmp_path / "home-0"  # where `served` has it
    nodes = ",".join(str(tmp_path / f"node-{index}") for index in range(3))
    server = served("fake:echo")
    assert ashore("backup", "init", "--nodes", nodes, home=home).returncode == 0
    with closing(sqlite3.connect(home / "state.db", timeout=30)) as connection, connection:
        connection.execute("CREATE TABLE pairs (side TEXT PRIMARY KEY, amount INTEGER)")
        connection.executemany("INSERT INTO pairs VALUES (?, 1000)", [(f"{n}",) for n in range(PAIRS)])
    stop = threading.Event()
    done = {"asked": 0, "written": 0}

    def ask() -> None:
        headers = {"authorization": f"Bearer {server.key}"}
        with httpx.Client(base_url=server.base_url, headers=headers, timeout=30) as client:
            while not stop.is_set():
                words = {"model": "fake:echo", "input": f"number {done['asked']}", "background": done["asked"] % 2 == 0}
                answer = client.post("/responses", json=words)
                assert answer.status_code in (200, 202, 429), answer.text
                done["asked"] += 1

    def write() -> None:
        with closing(sqlite3.connect(home / "state.db", timeout=30, isolation_level=None)) as connection:
            while not stop.is_set():
                connection.execute("BEGIN IMMEDIATE")
                a, b = done["written"] % PAIRS, (done["written"] * 7 + 3) % PAIRS
                connection.execute("UPDATE pairs SET amount = amount - 1 WHERE side = ?", (str(a),))
                connection.execute("UPDATE pairs SET amount = amount + 1 WHERE side = ?", (str(b),))
                connection.execute("COMMIT")
                done["written"] += 1
                stop.wait(0.005)  # SQLite lets nobody else write where one never pauses

    threads = [threading.Thread(target=work) for work in (ask, write)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            asked, written = done["asked"], done["written"]
            told = ashore("backup", "run", home=home)
            assert told.returncode == 0, told.stderr
            assert done["asked"] > asked and done["written"] > written  # it did not stop meanwhile
            new = tmp_path / f"new-{number}"
            key = home / "backup-recovery-key"
            restored = ashore("backup", "restore", "--nodes", nodes, "--key", str(key), home=new)
            assert restored.returncode == 0, restored.stderr
            with closing(sqlite3.connect(new / "state.db")) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert connection.execute("SELECT SUM(amount) FROM pairs").fetchall() == [(1000 * PAIRS,)]
            verified = ashore("audit", "verify", home=new)
            assert verified.returncode == 0, verified.stdout + verified.stderr
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert done["asked"] > 5 and done["written"] > 50
    assert server.stop() == 0
    assert ashore("audit", "verify", home=home).returncode == 0
