"""Kill the job worker, the API and the supervisor in turn, and look whether an accepted job is lost or has two effects.

    python benchmarks/jobs_kills.py [--kills 50] [--pause 1.0] [--out REPORT.md]

Background responses and one batch are submitted all the time, each under an idempotency key, and counted as accepted
once the answer has come. Triggers in the database of the run, which know nothing of the queue's own rules, count how
often each job came to its end and how often each result was written.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import json
import os
import platform
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL = "fake:echo?tok_per_s=300&sequences=8"
BATCH_LINES = 300
TARGETS = ("jobs", "api", "supervisor")
FINAL = "('succeeded','failed','dead','cancelled','expired')"


@dataclass
class Rig:
    """One home and the server that runs from it."""

    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    accepted: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        with open(self.home / "up.out", "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ashore.cli.main", "up", "--config", str(self.home / "ashore.toml"),
                 "--port", str(self.port), "--grpc-port", "0"],
                env={**os.environ, "ASHORE_HOME": str(self.home)}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self.wait_ready()

    def wait_ready(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            with suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("ashore up did not come up:\n" + (self.home / "up.out").read_text()[-3000:])
            time.sleep(0.05)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        key = (self.home / "first-key").read_text().strip() if (self.home / "first-key").exists() else ""
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"authorization": f"Bearer {key}", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def insist(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Ask until an answer of 200 comes, as a client with an idempotency key does."""
        while True:
            with suppress(OSError, http.client.HTTPException):
                status, answer = self.ask(method, path, body, headers)
                if status == 200:
                    return json.loads(answer)
                if status < 500 and status != 429:
                    raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
                self.refused += 1
            time.sleep(0.05)

    def submit_all_the_time(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            text = f"question {number} " + "x" * (number % 40)
            body = {"model": "echo", "input": text, "background": True}
            answer = self.insist("POST", "/v1/responses", body, {"idempotency-key": f"k{number}"})
            self.accepted[answer["id"]] = text
            time.sleep(0.1)

    def pid_of(self, target: str) -> int | None:
        if target == "supervisor":
            assert self.process is not None
            return self.process.pid
        module = {"jobs": "ashore.control.jobs.worker", "api": "ashore.data.worker"}[target]
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    if module.encode() in words and any(str(self.home).encode() in word for word in words):
                        return int(folder.name)
        return None

    def kill(self, target: str) -> bool:
        pid = self.pid_of(target)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        if target == "supervisor":
            assert self.process is not None
            self.process.wait()
            self.start()
        return True


def watch_ends(database: Path) -> None:
    """Install the triggers that count."""
    with closing(sqlite3.connect(database, timeout=10)) as raw:
        raw.executescript(
            f"""
            CREATE TABLE seen_end (job_id TEXT, state TEXT);
            CREATE TABLE seen_result (job_id TEXT);
            CREATE TRIGGER count_end AFTER UPDATE OF state ON job
                WHEN new.state IN {FINAL} AND old.state NOT IN {FINAL}
                BEGIN INSERT INTO seen_end VALUES (new.job_id, new.state); END;
            CREATE TRIGGER count_result AFTER UPDATE OF result ON job_body
                WHEN new.result IS NOT NULL BEGIN INSERT INTO seen_result VALUES (new.job_id); END;
            """
        )


def run(kills: int, pause_s: float, home: Path) -> dict[str, Any]:
    """Do it and return what was seen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (home / "ashore.toml").write_text(f'[[model]]\nname = "{MODEL}"\nalias = "echo"\n[jobs]\nconcurrency = 8\n')
    rig = Rig(home, port)
    rig.start()
    watch_ends(home / "state.db")
    lines = b"".join(
        json.dumps(
            {
                "custom_id": f"line{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "echo", "messages": [{"role": "user", "content": f"line {number} " + "y" * 30}]},
            }
        ).encode()
        + b"\n"
        for number in range(BATCH_LINES)
    )
    form = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n' + lines + b"\r\n--b--\r\n"
    )
    file = rig.insist("POST", "/v1/files", form, {"content-type": "multipart/form-data; boundary=b"})
    order = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = rig.insist("POST", "/v1/batches", order, {"idempotency-key": "batch"})
    submitter = threading.Thread(target=rig.submit_all_the_time)
    submitter.start()
    killed = dict.fromkeys(TARGETS, 0)
    began = time.monotonic()
    try:
        while sum(killed.values()) < kills:
            time.sleep(pause_s)
            target = TARGETS[sum(killed.values()) % len(TARGETS)]
            killed[target] += rig.kill(target)
        rig.wait_ready()
    finally:
        rig.stop.set()
        submitter.join()
    killing_s = time.monotonic() - began
    lost = {job_id for job_id, text in rig.accepted.items() if not _ended_well(rig, job_id, text)}
    state = rig.insist("GET", f"/v1/batches/{batch['id']}")
    deadline = time.monotonic() + 300
    while state["status"] != "completed" and time.monotonic() < deadline:
        time.sleep(0.5)
        state = rig.insist("GET", f"/v1/batches/{batch['id']}")
    out = (
        rig.ask("GET", f"/v1/files/{state['output_file_id']}/content")[1].splitlines()
        if state["output_file_id"]
        else []
    )
    answered = [json.loads(line)["custom_id"] for line in out]
    assert rig.process is not None
    rig.process.send_signal(signal.SIGTERM)
    rig.process.wait(60)
    with closing(sqlite3.connect(home / "state.db")) as raw:

        def count(query: str) -> int:
            return int(raw.execute(query).fetchone()[0] or 0)

        return {
            "kills": killed,
            "killing_s": round(killing_s, 1),
            "accepted_responses": len(rig.accepted),
            "lost_responses": len(lost),
            "batch_status": state["status"],
            "batch_lines": BATCH_LINES,
            "batch_lines_answered": len(answered),
            "batch_lines_answered_twice": len(answered) - len(set(answered)),
            "ended_twice": count("SELECT count(*) FROM (SELECT 1 FROM seen_end GROUP BY job_id HAVING count(*) > 1)"),
            "results_written_twice": count(
                "SELECT count(*) FROM (SELECT 1 FROM seen_result GROUP BY job_id HAVING count(*) > 1)"
            ),
            "jobs_started_again": count("SELECT count(*) FROM job WHERE lease_number > 1"),
            "leases": count("SELECT sum(lease_number) FROM job"),
            "attempts_that_counted_most": count("SELECT max(attempts) FROM job"),
            "attempts_cut_off": count("SELECT sum(takeovers) FROM job"),
            "attempts_cut_off_of_one_job_most": count("SELECT max(takeovers) FROM job"),
            "dead": count("SELECT count(*) FROM job WHERE state = 'dead'"),
            "dead_of": sorted({code for (code,) in raw.execute("SELECT error_code FROM job WHERE state = 'dead'")}),
            "refused_on_the_way": rig.refused,
        }


def _ended_well(rig: Rig, job_id: str, text: str) -> bool:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        answer = rig.insist("GET", f"/v1/responses/{job_id}")
        if answer["status"] == "completed":
            return bool(answer["output"][0]["content"][0]["text"] == text)
        if answer["status"] in ("failed", "cancelled", "incomplete"):
            return False
        time.sleep(0.1)
    return False


def passed(seen: dict[str, Any]) -> bool:
    """Return whether nothing was lost and nothing had two effects."""
    return (
        seen["lost_responses"] == seen["ended_twice"] == seen["results_written_twice"] == 0
        and seen["batch_status"] == "completed"
        and seen["batch_lines_answered"] == seen["batch_lines"]
        and seen["batch_lines_answered_twice"] == seen["dead"] == 0
    )


def report(seen: dict[str, Any], command: str) -> str:
    """Return the report as text."""
    verdict = "passed" if passed(seen) else "FAILED"
    today = datetime.datetime.now(datetime.UTC).date()
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in seen.items())
    return (
        f"# Kills with jobs in the queue: {verdict}\n\n{today}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, `{command}`, model `{MODEL}`, SQLite.\n\n"
        f"| what | seen |\n|---|---|\n{rows}\n\n"
        "Not measured: Postgres, several machines, a power cut (the kernel kept what was written).\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--out", type=Path, help="write the report there")
    parser.add_argument("--json", action="store_true", help="print what was seen as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ashore-kills-", ignore_cleanup_errors=True) as folder:
        seen = run(given.kills, given.pause, Path(folder))
    text = report(seen, f"python benchmarks/jobs_kills.py --kills {given.kills} --pause {given.pause}")
    print(json.dumps(seen) if given.json else text)
    if given.out:
        given.out.write_text(text)
    return 0 if passed(seen) else 1


if __name__ == "__main__":
    raise SystemExit(main())
