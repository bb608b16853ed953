"""Logs of training runs: a line a step, searched, told in figures, whatever a kill or a full disk left. No torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ashore.cli.main import main
from ashore.core.errors import Conflict, NotFound
from ashore.lab.training import RunLogs, StepReport
from ashore.lab.training.runlog import RunLog


def report(step: int, **fields: float) -> StepReport:
    given = {"tok_per_s": 50.0, "eta_s": 1.0, "data_wait_s": 0.1, "stall_s": 0.02, "seconds": 2.0} | fields
    return StepReport(
        step=step, num_steps=20, tokens=100 * step, loss=5.0 - step / 10, learning_rate=1e-3, gradient_norm=1.0, **given
    )


def write(folder: Path, run: str, steps: range, at: float) -> None:
    times = iter([at + n for n in range(100)])
    with RunLog(folder, run, now=lambda: next(times)) as log:
        log.say("begin", "tiny -> adapter")
        for step in steps:
            log.step(report(step))
        log.say("end", "adapter sha256:1")


def test_a_run_is_told_in_figures_and_a_step_that_was_done_again_counts_once(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunLog(tmp_path, "one", now=lambda: 1000.0) as log:
        log.say("begin")
        for step in range(1, 9):
            log.step(report(step))
        raise ZeroDivisionError("x")
    assert RunLogs(tmp_path).figures("one").state == "stopped"
    write(tmp_path, "one", range(6, 21), 2000.0)
    found = RunLogs(tmp_path).figures("one")
    assert (found.state, found.begun, found.steps, found.num_steps, found.tokens) == ("ended", 2, 20, 20, 2000)
    assert found.loss_first == pytest.approx(4.85) and found.loss_last == pytest.approx(3.05)
    assert found.data_wait_share == pytest.approx(0.05) and found.stall_share == pytest.approx(0.01)
    assert found.tok_per_s == pytest.approx(50) and found.peak_memory_bytes > 1 << 20
    assert (found.begun_at, found.last_at) == (1000.0, 2016.0)


def test_lines_are_found_by_word_time_and_run(tmp_path: Path) -> None:
    write(tmp_path, "a", range(1, 6), 1000.0)
    write(tmp_path, "b", range(1, 6), 5000.0)
    logs = RunLogs(tmp_path)
    assert logs.runs() == ["a", "b"]
    assert [(line.run, line.what) for line, _ in logs.lines(pattern="ADAPTER SHA")] == [("a", "end"), ("b", "end")]
    assert [line.step for line, _ in logs.lines("b", pattern='"step":3,')] == [3]
    assert {line.run for line, _ in logs.lines(since_s=4000)} == {"b"}
    assert len(list(logs.lines("a", since_s=1002, until_s=1003))) == 2
    with pytest.raises(NotFound, match="no log of a run 'c'") as caught:
        list(logs.lines("c"))
    assert "a, b" in caught.value.hint
    with pytest.raises(NotFound):
        list(logs.lines("../a"))


def test_half_a_line_is_passed_over_and_a_log_goes_on_behind_it(tmp_path: Path) -> None:
    write(tmp_path, "a", range(1, 3), 1000.0)
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"at":1,"run":"a","wh\n\xff\n')
    write(tmp_path, "a", range(3, 5), 2000.0)
    assert RunLogs(tmp_path).figures("a").steps == 4
    with pytest.raises(Conflict, match="no bucket is named"):
        RunLogs(tmp_path).archive(older_than_s=1, now_s=1)


def test_the_log_is_shown_with_the_moments_of_every_other_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path))
    folder = tmp_path / "logs/training"
    folder.mkdir(parents=True)
    line = {"at": 1_764_600_000.0, "run": "tone", "what": "begin", "text": "30 steps"}
    (folder / "tone.jsonl").write_text(json.dumps(line) + "\n")
    assert main(["train", "log", "tone"]) == 0
    assert capsys.readouterr().out == "2025-12-01 14:40:00 UTC  tone  begin  30 steps\n"
