"""`ashore optimize quantize` as a user gives them, on a tiny model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from commands import run_command
from tiny_models import make_tiny_model


def ashore(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_command(*words, home=home, timeout_s=240)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    pulled = ashore(tmp_path / "home", "model", "pull", str(make_tiny_model(tmp_path / "tiny", "qwen2")))
    assert pulled.returncode == 0, pulled.stderr
    return tmp_path / "home"


def test_from_a_plan_to_a_variant(home: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Line {n} says {n * n}.\n" for n in range(400)))
    words = ("optimize", "quantize", "tiny", "--to", "int4", "--group-size", "32", "--calibration", str(text), "--json")
    plan = json.loads(ashore(home, *words, "--dry-run").stdout)
    assert plan["reference"] == "tiny@int4" and plan["memory_bytes"] > 0
    assert "tiny@int4" not in ashore(home, "model", "list").stdout
    made = json.loads(ashore(home, *words).stdout)
    assert made["recipe"]["parameter.group_size"] == "32" and made["parent"] == plan["parent"]
    assert made["num_bytes"] < made["parent_bytes"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "int5"), "there is no precision 'int5'"),
        (("--to", "int4", "--calibration", "nowhere.txt"), "nowhere.txt cannot be read"),
        (("--to", "auto"), "no longer searches"),
        (("--to", "int8", "--engine", "torch"), "a baseline"),
    ],
)
def test_mistakes_are_told_with_exit_code_two(home: Path, words: tuple[str, ...], said: str) -> None:
    ended = ashore(home, "optimize", "quantize", "tiny", *words)
    assert ended.returncode == 2 and said in ended.stderr and "hint:" in ended.stderr
