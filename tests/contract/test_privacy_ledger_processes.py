"""The privacy ledger over processes that are killed, on both databases; the state set back beneath one that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from postgres_server import fresh_database

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")  # a killed process loses nothing that it wrote, on whatever file system


def spend(tmp_path: Path, url: str, *, reservations: int, kills: int, datasets: int) -> dict[str, Any]:
    folder = MEMORY if os.access(MEMORY, os.W_OK) else tmp_path
    words = [sys.executable, "-m", "benchmarks.ledger_exact", "--json", "--state", url, "--folder", str(folder)]
    words += [f"--reservations={reservations}", f"--kills={kills}", f"--datasets={datasets}"]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    verdict: dict[str, Any] = json.loads(run.stdout)
    return verdict


def judged(verdict: dict[str, Any]) -> dict[str, int]:
    return {name: verdict[name] for name in ("overspent", "unknown", "unrecorded", "wasted")}


NOTHING = dict.fromkeys(("overspent", "unknown", "unrecorded", "wasted"), 0)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_eight_processes_that_are_killed_draw_no_more_than_was_granted(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = fresh_database(request.getfixturevalue("postgres_url"), "ledger_few") if kind == "postgres" else ""
    verdict = spend(tmp_path, url, reservations=640, kills=6, datasets=2)
    assert judged(verdict) == NOTHING
    assert verdict["kills"] >= 4 and verdict["refused"] > 20 and verdict["drawn"] > 200


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_hundred_thousand_reservations(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = fresh_database(request.getfixturevalue("postgres_url"), "ledger_many") if kind == "postgres" else ""
    verdict = spend(tmp_path, url, reservations=100_000, kills=100, datasets=40)
    assert judged(verdict) == NOTHING and verdict["kills"] >= 50
