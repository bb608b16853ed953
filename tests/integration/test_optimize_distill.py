"""`ashore optimize distill` as a user types it, on a tiny teacher behind the engines that serve it. Needs torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from distil_bench import pull_teacher, write_data

from ashore.cli.bootstrap import build_store
from ashore.kit.settings import Home, read_settings

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

pytest.importorskip("torch")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home with a teacher, and data beside it."""
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = read_settings()
    settings.home.create()
    pull_teacher(build_store(settings.home, settings), tmp_path)
    write_data(tmp_path)
    return tmp_path


def distill(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    data = ("--data", str(home / "data.jsonl"), "--text", str(home / "text.txt"))
    command = [sys.executable, "-m", "ashore.cli.main", "optimize", "distill", "tiny", *data, *words]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=240)


def made(home: Path, *words: str) -> dict[str, Any]:
    result = distill(home, *words, "--json")
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


SMALL = ("--layers", "1", "--window-tokens", "64", "--batch-tokens", "128")


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_student_learns_from_what_an_engine_tells(home: Path, engine: str) -> None:
    document = made(home, *SMALL, "--teacher-engine", engine, "--epochs", "8", "--learning-rate", "0.003")
    assert document["last_loss"] < document["first_loss"]
    assert document["model"]["shape"]["num_layers"] == 1
    assert 0 < document["logit_bytes_per_token"] <= 300
    assert engine in document["recipe"]["teacher_engine_used"]
    folder = Home(root=home / "home").cache / "distill"
    assert [path.name.partition("-")[0] for path in folder.iterdir()] == ["logits"]


def test_engines_that_tell_less_teach_too(home: Path) -> None:
    document = made(home, *SMALL, "--top", "12", "--teacher-engine", "openvino", "--name", "less")
    assert document["model"]["name"] == "less"
    assert document["logit_bytes_per_token"] < 12 * 2.2 + 15


def test_the_plan_is_told_and_nothing_made(home: Path) -> None:
    document = made(home, *SMALL, "--dry-run")
    assert document["student_parameters"] < document["teacher_parameters"]
    assert document["memory_bytes"] > 0
    assert not (Home(root=home / "home").cache / "distill").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--layers", "9"), "expected at most 2"),
        (("--layers", "1", "--learning-rate", "7"), "--learning-rate: expected"),
    ],
)
def test_what_cannot_be_is_told_with_a_hint(home: Path, words: tuple[str, ...], told: str) -> None:
    result = distill(home, *words)
    assert result.returncode == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr
