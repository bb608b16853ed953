"""`ashore optimize quantize` and `rebuild` as a user gives them, on a tiny model."""

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


def test_from_a_plan_to_a_variant_and_back_to_the_same_bytes(home: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Line {n} says {n * n}.\n" for n in range(400)))
    words = ("optimize", "quantize", "tiny", "--to", "int4", "--group-size", "32", "--calibration", str(text), "--json")
    plan = json.loads(ashore(home, *words, "--dry-run").stdout)
    assert plan["reference"] == "tiny@int4" and plan["memory_bytes"] > 0
    assert "tiny@int4" not in ashore(home, "model", "list").stdout
    made = json.loads(ashore(home, *words).stdout)
    assert made["recipe"]["parameter.group_size"] == "32" and made["parent"] == plan["parent"]
    assert made["num_bytes"] < made["parent_bytes"]
    again = ashore(home, "optimize", "rebuild", "tiny@int4", "--data", str(text))
    assert again.returncode == 0 and "bit for bit the same" in again.stdout, again.stderr


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


def test_the_commands_for_vllm_are_shown(home: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("words " * 5000)
    shown = ashore(home, "optimize", "quantize", "tiny", "--to", "w4a16", "--calibration", str(text))
    assert shown.returncode == 0 and "compress.py" in shown.stdout and "--scheme w4a16" in shown.stdout
    assert "pip install 'llmcompressor" in shown.stdout


def test_the_forms_of_vllm_are_made_where_the_environment_has_the_tool(home: Path, tmp_path: Path) -> None:
    """A stand-in for llm-compressor's two functions; what is tested is everything around it."""
    text = tmp_path / "text.txt"
    text.write_text("words " * 5000)
    bin_ = tmp_path / "side" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").write_text(
        f'#!/bin/sh\nif [ "$2" = -c ]; then exit 0; fi\n'
        f'cp "$3/model.safetensors" "$3/config.json" "$4/" && echo "$@" > "{tmp_path}/asked"\n'
    )
    (bin_ / "python").chmod(0o755)
    words = ("optimize", "quantize", "tiny", "--to", "w8a8", "--calibration", str(text), "--json")
    refused = ashore(home, *words, "--run", str(tmp_path / "nothing"))
    assert refused.returncode == 4 and "not a Python environment with llm-compressor" in refused.stderr
    made = ashore(home, *words, "--run", str(tmp_path / "side"))
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["format"] == "safetensors"
    assert "--scheme w8a8" in (tmp_path / "asked").read_text()
