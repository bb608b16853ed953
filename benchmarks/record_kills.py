"""Kill the API worker and the supervisor at random moments of administration, and compare the audit log with the state.

    python benchmarks/record_kills.py [--kills 300] [--postgres] [--seed 1]

Users are created and disabled, roles written and keys made all the time. Every fourth kill takes the supervisor with
all its children. At the end, after a graceful stop, each act that was answered must be recorded, each that was recorded
must be in force, and each that is in force must be recorded, once.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ashore.cli.bootstrap import open_state
from ashore.control.audit import verify_local
from ashore.data.audit import Query, Record
from ashore.data.audit.search import search
from ashore.data.audit.segments import LocalShelf, chains_in
from ashore.data.authority.sql import load_policy
from ashore.kit.settings import Home, Settings
from ashore.kit.state import execute

ACTS = ("key:create", "role:put", "user:change", "user:create")
WRITERS = 3
SUPERVISOR_EVERY = 4


class Rig:
    """One home, its server, and what was answered."""

    def __init__(self, home: Path, state_url: str) -> None:
        self.home, self.state_url = home, state_url
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.answered: set[tuple[str, str]] = set()
        self.stop = threading.Event()
        self.key = ""

    def start(self) -> None:
        words = ["up", "fake:echo", "--port", str(self.port), "--grpc-port", "0"]
        if self.state_url:
            (self.home / "ashore.toml").write_text(f'[state]\nurl = "{self.state_url}"\n')
            words += ["--config", str(self.home / "ashore.toml")]
        with open(self.home / "up.out", "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ashore.cli.main", *words],
                env={**os.environ, "ASHORE_HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        until_s = time.monotonic() + 120
        while True:
            with suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError((self.home / "up.out").read_text()[-3000:])
            time.sleep(0.02)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data.startswith(b"{") else data

    def act(self, action: str, name: str, method: str, path: str, body: Any) -> bool:
        """Do one act; note it where it was answered."""
        try:
            status, answer = self.ask(method, f"/admin/v1{path}", body)
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
            return False
        if status not in (200, 201):
            if status < 500 and status != 409:  # 409: done by a request whose answer was lost
                raise RuntimeError(f"{method} {path}: {status} {answer}")
            return False
        self.answered.add((action, name or answer["record"]["id"]))
        return True

    def write(self, number: int) -> None:
        """Administer until told to stop."""
        turn = 0
        while not self.stop.is_set():
            turn += 1
            name = f"w{number}-{turn}"
            rules = [f"infer on model/{name}"]
            self.act("role:put", name, "PUT", f"/roles/{name}", {"rules": rules})
            if self.act("user:create", name, "POST", "/users", {"id": name}):
                self.act("key:create", "", "POST", "/keys", {"owner": name})
                self.act("user:change", name, "PATCH", f"/users/{name}", {"disabled": True})

    def worker(self) -> int:
        """Return the process of the API worker; 0 where there is none now."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if b"ashore.data.worker" in words and str(self.home).encode() in words:
                    return int(folder.name)
        return 0

    def kill(self, *, supervisor: bool) -> None:
        with suppress(ProcessLookupError):
            if supervisor:
                self.process.kill()
                self.process.wait()
            elif pid := self.worker():
                os.kill(pid, signal.SIGKILL)


def in_force(settings: Settings, *, drained: bool = True) -> set[tuple[str, str]]:
    """Return what the state has, as the acts that made it."""
    with closing(open_state(settings)) as state, state.read() as connection:
        waiting = int(execute(connection, "SELECT count(*) FROM audit_act").scalar_one())
        assert not drained or waiting == 0, f"{waiting} acts were not drained at the stop"
        users = execute(connection, "SELECT id, disabled FROM access_account").all()
        keys = execute(connection, "SELECT key_id FROM access_key").all()
        roles = load_policy(connection).roles
    found = {("user:create", row[0]) for row in users} | {("user:change", row[0]) for row in users if row[1]}
    return found | {("key:create", row[0]) for row in keys} | {("role:put", role.name) for role in roles}


def named(record: Record) -> tuple[str, str]:
    """Return an act and what it made, as the state names it."""
    name = record.detail["new"] if record.action == "key:create" else record.resource.rpartition("/")[2]
    return record.action, str(name)


@contextmanager
def database(postgres: bool) -> Iterator[str]:
    """Give the URL of the state; empty: SQLite in the home."""
    if not postgres:
        yield ""
        return
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
    from postgres_server import postgres_server

    with postgres_server() as url:
        yield url


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--until", type=float, default=float("inf"), help="Seconds after which no more is killed.")
    given = parser.parse_args()
    chance, began_s = random.Random(given.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, database(given.postgres) as url:
        home = Path(folder)
        rig = Rig(home, url)
        rig.start()
        rig.key = (home / "first-key").read_text().strip()
        status, made = rig.ask("POST", "/admin/v1/users", {"id": "sec", "roles": ["security-officer"], "key": {}})
        assert status in (200, 201), made
        rig.key = made["key"]["key"]
        before = in_force(Settings(home=Home(root=home), state_url=url), drained=False)
        writers = [threading.Thread(target=rig.write, args=(number,)) for number in range(WRITERS)]
        for one in writers:
            one.start()
        killed: Counter[str] = Counter()
        while sum(killed.values()) < given.kills and time.monotonic() - began_s < given.until:
            time.sleep(chance.uniform(0.0, 0.6))
            supervisor = sum(killed.values()) % SUPERVISOR_EVERY == SUPERVISOR_EVERY - 1
            rig.kill(supervisor=supervisor)
            killed["supervisor" if supervisor else "worker"] += 1
            if supervisor:
                rig.start()
            else:
                time.sleep(0.05)
                rig.wait_ready()
        rig.stop.set()
        for one in writers:
            one.join()
        rig.process.terminate()
        rig.process.wait(60)
        audit = Home(root=home).audit
        hits = search(LocalShelf(audit), Query(kind="act", outcome="done", limit=100_000))
        records = Counter(named(hit.record) for hit in hits if hit.record.action in ACTS)
        late = sum("acted" in hit.record.detail for hit in hits)
        forced = in_force(Settings(home=Home(root=home), state_url=url)) - before
        recorded = {pair for pair in records if pair not in before}
        broken = [chain for chain in chains_in(audit) if verify_local(audit, chain).problem is not None]
        twice = sum(number - 1 for number in records.values())
        print(f"kills: {dict(killed)} in {time.monotonic() - began_s:.0f} s; state: {'Postgres' if url else 'SQLite'}")
        print(f"acts: {len(rig.answered)} answered, {len(forced)} in force; recorded late: {late}, twice: {twice}")
        bad = {
            "answered and not recorded": rig.answered - recorded,
            "recorded and not in force": recorded - forced,
            "in force and not recorded": forced - recorded,
        }
        for what, found in bad.items():
            print(f"{what}: {len(found)} {sorted(found)[:3] if found else ''}")
        print(f"chains with a problem: {broken or 0}")
        return int(any(bad.values()) or bool(broken))


if __name__ == "__main__":
    sys.exit(main())
