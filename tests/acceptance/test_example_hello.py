"""`ashore example run hello --small`, from the command to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model


def test_a_report_that_needs_nothing_beside_it(demo_home: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "ashore.cli.main",
        "example",
        "run",
        "hello",
        "--small",
        "--out",
        str(tmp_path / "out"),
    ]
    environ = {**os.environ, "ASHORE_HOME": str(demo_home), "TMPDIR": str(tmp_path)}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out/figures.json").read_text())
    assert all(one["met"] is not False for one in facts["figures"].values())
    page = (tmp_path / "out/report.html").read_text()
    assert "What this does not show" in page and "data:image/svg" in page
    assert "http" not in page.replace("http://www.w3.org", ""), "a report loads nothing"
    assert [one.name for one in tmp_path.iterdir()] == ["out"], "the server's home is left behind"
