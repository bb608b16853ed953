"""Drills on a server and on twins: a verdict each, nothing left broken, a report that the audit log vouches for."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run_command
from fake_clock import faketime_folder
from home_processes import processes_of
from served import Served, call, start_served
from waiting import eventually

from ashore.control.drills.catalog import all_drills
from ashore.control.drills.faults import lacking

CONFIG = """
[[model]]
name = "fake:random?tok_per_s=200&tokens=40"
alias = "pair"
replicas = 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    ports = [socket.socket() for _ in range(2)]
    for one in ports:
        one.bind(("127.0.0.1", 0))
    numbers = [int(one.getsockname()[1]) for one in ports]
    for one in ports:
        one.close()
    running = start_served(
        tmp_path_factory.mktemp("drills") / "home", (), store=None, port=numbers[0], grpc_port=numbers[1], config=CONFIG
    )
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def people(server: Served) -> dict[str, str]:
    """Hand the server over to its three administrators, and return their keys. It is production from then on."""
    keys: dict[str, str] = {}
    for user, role in (("sec", "security-officer"), ("sys", "system-administrator"), ("aud", "auditor")):
        made = call(
            server, "POST", "/admin/v1/users", keys.get("sec", server.key), {"id": user, "roles": [role], "key": {}}
        )
        keys[user] = made["key"]["key"]
    return keys


def drill(home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run_command("drill", *words, env={"ASHORE_HOME": str(home), **env}, timeout_s=240)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_drill_on_the_server_passes_and_its_report_is_vouched_for(server: Served) -> None:
    dry = drill(server.home, "run", "host-killed", "--dry-run")
    assert dry.returncode == 0 and "refused       no" in dry.stdout
    hosts = processes_of(server.home, "ashore.data.engines.host")
    done = drill(server.home, "run", "host-killed", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = told(done)
    assert (report["verdict"], report["on"], report["production"]) == ("pass", server.root_url, False)
    assert report["felt"] and report["recovered_s"] is not None
    assert hosts[0] not in processes_of(server.home, "ashore.data.engines.host")
    listed = drill(server.home, "reports")
    assert listed.returncode == 0 and "as recorded" in listed.stdout
    path = server.home / "drills" / "reports" / f"{report['id']}.json"
    kept = path.read_text()
    path.write_text(kept.replace('"pass"', '"fail"'))
    changed = drill(server.home, "reports")
    assert changed.returncode == 4 and "NOT AS RECORDED" in changed.stdout
    path.write_text(kept)


def test_a_drill_that_is_killed_in_the_middle_leaves_the_server_as_it_was(server: Served) -> None:
    """The engine host is let go, no journal is left, and the next drill may run."""
    words = [sys.executable, "-m", "ashore.cli.main", "drill", "run", "host-hung"]
    env = {**os.environ, "ASHORE_HOME": str(server.home)}
    running = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert running.stderr is not None
    try:
        eventually(lambda: b"fault:" in (running.stderr.readline() if running.stderr else b""))
        journal = server.home / "drills" / "undo.jsonl"
        lines = eventually(lambda: journal.exists() and journal.read_bytes())
        (step,) = [json.loads(line) for line in lines.splitlines()]
        eventually(lambda: "\nState:\tT" in Path(f"/proc/{step['pid']}/status").read_text())
        running.send_signal(signal.SIGKILL)
        eventually(lambda: not journal.exists())
        state = Path(f"/proc/{step['pid']}/status")
        assert not state.exists() or "\nState:\tT" not in state.read_text()
    finally:
        running.kill()
        running.wait()
        running.stderr.close()
    stopped = drill(server.home, "stop")
    assert stopped.returncode == 0 and "nothing is left broken" in stopped.stdout


def test_production_needs_a_reason_and_the_consent_of_a_security_officer(
    server: Served, people: dict[str, str]
) -> None:
    keys = people
    made = call(server, "POST", "/admin/v1/users", keys["sec"], {"id": "dev", "roles": ["developer"], "key": {}})
    load = {"ASHORE_API_KEY": made["key"]["key"]}
    without = drill(server.home, "run", "jobs-killed", **load)
    assert without.returncode != 0 and "no reason was given" in without.stderr
    alone = drill(server.home, "run", "jobs-killed", "--reason", "yearly", **load)
    assert alone.returncode != 0 and "no security officer consented" in alone.stderr
    refused = drill(server.home, "consent", "jobs-killed", ASHORE_API_KEY=keys["sys"])
    assert refused.returncode == 5, "an administrator runs servers, and does not consent to breaking them"
    agreed = drill(server.home, "consent", "jobs-killed", ASHORE_API_KEY=keys["sec"])
    assert agreed.returncode == 0, agreed.stderr
    done = drill(server.home, "run", "jobs-killed", "--reason", "yearly", "--json", **load)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (told(done)["production"], told(done)["consent"]) == (True, "sec")
    again = drill(server.home, "run", "jobs-killed", "--reason", "yearly", **load)
    assert "no security officer consented" in again.stderr, "it was used up"


def test_reports_are_read_over_http_and_a_changed_one_is_told(server: Served, people: dict[str, str]) -> None:
    rows = call(server, "GET", "/admin/v1/drills", people["sys"])["items"]
    assert len(rows) == len(all_drills()) and {one["drill"] for one in rows if one["last"] == "pass"} == {
        "host-killed", "jobs-killed",
    }  # fmt: skip
    shown = call(server, "GET", "/admin/v1/drills/disk-full", people["sys"])
    assert (shown["runs_on"], shown["needs"]) == ("twin", ["root", "mount"])
    rows = call(server, "GET", "/admin/v1/drill-reports", people["sys"])["items"]
    (report,) = [one for one in rows if one["drill"] == "host-killed"]
    assert (report["verdict"], report["vouched"]) == ("pass", "as recorded")
    whole = call(server, "GET", "/admin/v1/drill-reports/host-killed", people["sys"])
    assert whole["report"] == report["report"] and all(one["held"] for one in whole["checks"])
    assert whole["phases"]["before"]["requests"] > 0
    page = drill(server.home, "download", "host-killed", ASHORE_API_KEY=people["sys"])
    assert page.returncode == 0 and page.stdout.startswith("<!doctype html>") and whole["sha256"] in page.stdout
    path = server.home / "drills" / "reports" / f"{report['report']}.json"
    path.write_text(path.read_text().replace('"pass"', '"fail"'))
    changed = call(server, "GET", "/admin/v1/drill-reports/host-killed", people["sys"])
    assert changed["vouched"] == "not as recorded"
    path.unlink()


def test_the_doctor_looks_changes_and_goes_back_over_http(server: Served, people: dict[str, str]) -> None:
    """Each by a right of its own, and each change is an act in the audit log."""
    secret = server.home / "first-key"
    secret.chmod(0o644)
    found = call(server, "GET", "/admin/v1/doctor?only=access", people["sys"])
    (finding,) = [one for one in found["items"] if one["change"] and one["change"]["target"] == str(secret)]
    rule = finding["rule"]
    assert found["worst"] in ("critical", "warning") and finding["because_of"] == ""
    dry = call(server, "POST", "/admin/v1/doctor/apply", people["sys"], {"rules": rule, "dry_run": True})
    assert dry["items"] == [] and f"{rule} mode {secret} 0600" in dry["would_change"]
    assert secret.stat().st_mode & 0o777 == 0o644
    (made,) = call(server, "POST", "/admin/v1/doctor/apply", people["sys"], {"rules": rule})["items"]
    assert (made["stage"], made["before"], secret.stat().st_mode & 0o777) == ("made", "0644", 0o600)
    (undone,) = call(server, "POST", f"/admin/v1/doctor/changes/{made['id']}/undo", people["sys"])["items"]
    assert (undone["stage"], secret.stat().st_mode & 0o777) == ("undone", 0o644)
    assert [one["stage"] for one in call(server, "GET", "/admin/v1/doctor/changes", people["sys"])["items"]] == [
        "undone"
    ]
    acts = call(server, "GET", "/admin/v1/audit/records?action=doctor:*", people["aud"])["items"]
    assert {one["action"] for one in acts} >= {"doctor:apply", "doctor:undo"}
    secret.chmod(0o600)
    assert len(call(server, "GET", "/admin/v1/doctor/rules", people["sys"])["items"]) >= 90


def test_what_is_scheduled_is_due_until_it_was_run(tmp_path: Path) -> None:
    assert drill(tmp_path, "run", "--due").stdout.strip() == "no drill is due"
    assert drill(tmp_path, "schedule", "host-killed", "--every", "30d").returncode == 0
    rows = json.loads(drill(tmp_path, "list", "--json").stdout)["items"]
    assert [one["drill"] for one in rows if one["due_in_s"] is not None and one["due_in_s"] < 0] == ["host-killed"]
    refused = drill(tmp_path, "run", "--due")
    assert refused.returncode == 4 and "no server is running" in refused.stderr, (
        "a drill that is due is one of a server"
    )
    assert drill(tmp_path, "schedule", "host-killed", "--off").returncode == 0
    assert drill(tmp_path, "run", "--due").stdout.strip() == "no drill is due"


@pytest.mark.full
@pytest.mark.parametrize("name", list(all_drills()))
def test_every_drill_passes_on_a_twin(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "clock-stepped" and (folder := faketime_folder()) is not None:
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    lacks = lacking(all_drills()[name].needs)
    if lacks:
        pytest.skip(lacks)
    before = time.time()
    done = drill(tmp_path, "run", name, "--twin", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = told(done)
    assert report["verdict"] == "pass" and report["felt"] and all(one["held"] for one in report["checks"])
    assert not (tmp_path / "drills" / "undo.jsonl").exists()
    assert not [one for one in Path("/tmp").glob("ashore-*") if one.stat().st_mtime > before]
