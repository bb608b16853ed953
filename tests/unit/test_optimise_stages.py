"""Stages of the optimising benchmark: done once, again when what they were asked changes, and alone in failing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from benchmarks.optimise.decode import Rates
from benchmarks.optimise.meter import CommandFailed, metered
from benchmarks.optimise.stages import Facts, Stage, run_stages


class Counting:
    """A stage's work that counts how often it was done."""

    def __init__(self, made: int = 1) -> None:
        self.times = 0
        self.made = made

    def __call__(self, needed: Mapping[str, Facts]) -> Facts:
        self.times += 1
        return {"made": self.made, "of": sorted(needed)}


def quiet(line: str) -> None:
    del line


def test_what_was_done_is_kept_and_what_was_not_is_done(tmp_path: Path) -> None:
    first, second = Counting(), Counting()

    def dies(needed: Mapping[str, Facts]) -> Facts:
        raise KeyboardInterrupt

    stages = [Stage(name="a", run=first), Stage(name="b", run=dies, needs=("a",))]
    with pytest.raises(KeyboardInterrupt):
        run_stages(stages, tmp_path, say=quiet)
    stages[1] = Stage(name="b", run=second, needs=("a",))
    outcome = run_stages(stages, tmp_path, say=quiet)
    assert (first.times, second.times) == (1, 1)
    assert outcome.facts["b"] == {"made": 1, "of": ["a"]}
    assert run_stages(stages, tmp_path, say=quiet) == outcome
    assert (first.times, second.times) == (1, 1)


def test_a_stage_is_done_again_when_its_settings_or_what_it_built_on_changed(tmp_path: Path) -> None:
    first, second = Counting(), Counting()

    def stages(tokens: int) -> list[Stage]:
        return [
            Stage(name="a", run=first, settings={"tokens": tokens}),
            Stage(name="b", run=second, needs=("a",)),
        ]

    run_stages(stages(10), tmp_path, say=quiet)
    run_stages(stages(20), tmp_path, say=quiet)
    assert (first.times, second.times) == (2, 1)  # `a` found the same, so `b` stands
    first.made = 2
    run_stages(stages(20), tmp_path, say=quiet, again=("a",))
    assert (first.times, second.times) == (3, 2)


def test_a_stage_that_fails_takes_only_those_that_need_it(tmp_path: Path) -> None:
    def fails(needed: Mapping[str, Facts]) -> Facts:
        raise ValueError("no such flag")

    stages = [
        Stage(name="a", run=fails),
        Stage(name="b", run=Counting(), needs=("a",)),
        Stage(name="c", run=Counting()),
    ]
    outcome = run_stages(stages, tmp_path, say=quiet)
    assert outcome.failed == {"a": "ValueError: no such flag", "b": "needs a"}
    assert set(outcome.facts) == {"c"}
    assert not (tmp_path / "a.json").exists()


def test_only_some_stages(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    stages = [Stage(name="a", run=first), Stage(name="b", run=second)]
    assert run_stages(stages, tmp_path, only=("a",), say=quiet).failed == {"b": "left out"}
    assert second.times == 0


def test_a_metered_command_tells_its_output_and_the_memory_of_its_children(tmp_path: Path) -> None:
    child = "import time; b = bytearray(80 << 20); time.sleep(0.5)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('{{\"a\": 1}}')"
    done = metered([sys.executable, "-c", code], env=dict(os.environ), log=tmp_path / "log")
    assert done.json() == {"a": 1}
    assert done.peak_bytes > 80 << 20 and done.seconds >= 0.5


def test_a_command_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; print('error: no such model', file=sys.stderr); sys.exit(2)"
    with pytest.raises(CommandFailed, match=r"ended with 2: .*error: no such model"):
        metered([sys.executable, "-c", code], env=dict(os.environ), log=tmp_path / "log")
    assert json.dumps("no such model")[1:-1] in (tmp_path / "log").read_text()


def test_a_factor_is_the_median_of_the_rounds_and_not_of_the_rates() -> None:
    rates = Rates(streams=1, rounds={"a": (10.0, 40.0, 20.0), "b": (5.0, 10.0, 20.0)})
    assert rates.factor("a", "b") == 2.0
    assert rates.median("a") == 20.0
