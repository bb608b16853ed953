"""`ashore example run adviser --small`: its bars hold, and its report loads nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model


def test_the_adviser_quotes_refuses_and_hides_who_asks(demo_home: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_home / "store", tmp_path / "home/store", copy_function=os.link)  # it adds an embedder
    words = [sys.executable, "-m", "ashore.cli.main", "example", "run", "adviser", "--small", "--out", str(tmp_path)]
    done = subprocess.run(
        words, env={**os.environ, "ASHORE_HOME": str(tmp_path / "home")}, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert {name for name, one in figures.items() if one["met"]} >= {
        "quotes_in_source", "outside_refused", "reached_the_model", "left_on_disk", "came_back", "instructions_obeyed",
    }  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", ""), "a report loads nothing"
    with open(tmp_path / "answers.csv", encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert rows and all(bool(row["quotation"]) == bool(row["file"]) for row in rows)
