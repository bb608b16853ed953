"""The optimising benchmark's table and report from given facts: every row is there, judged, or says why it is not."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.optimise.report import write
from benchmarks.optimise.stages import Facts, Outcome
from benchmarks.optimise.table import ceiling, rows

FACTS: dict[str, Facts] = {
    "task": {"bag_of_words": 0.71, "num_test": 1600},
    "base": {"task": 0.24},
    "teacher": {"task": 0.80, "skill": 0.6, "peak_bytes": 4_000, "seconds": 100.0},
    "lora": {"task": 0.794, "peak_bytes": 2_000, "seconds": 70.0},
    "pruned": {"task": 0.72, "parameters": 70, "parent_parameters": 100},
    "student": {"task": 0.784, "skill": 0.45, "parameters": 49, "parent_parameters": 100},
    "speed": {
        "factors": {
            "int8 against fp16, 1 streams": 1.5,
            "int8 against fp16, 16 streams": 1.2,
            "pruned int8 against fp16, 1 streams": 1.9,
            "pruned int8 against fp16, 16 streams": 1.2,
            "pruned fp16 against fp16, 1 streams": 1.3,
            "pruned fp16 against fp16, 16 streams": 1.4,
            "zeros fp16 against fp16, 1 streams": 1.0,
        }
    },
    "evaluate_rate": {"ratio": 0.85, "detail": "1,700 of 2,000 tok/s"},
}


def test_every_row_is_judged_by_its_bar() -> None:
    verdicts = {row.what: (row.value, row.verdict) for row in rows(Outcome(facts=FACTS, failed={}))}
    judged = [
        ("teacher above", 9.0, "bar met"),
        ("30 % removed", 1.9, "bar met"),
        ("the same at 16", 100 * 1.2 / (1.2 / 0.7), "MISSED"),
        ("task accuracy kept", 90.0, "MISSED"),
        ("student of at most", 98.0, "bar met"),
        ("LoRA against full fine-tuning: peak", 0.35, "bar met"),
        ("LoRA against full fine-tuning: share", 100 * 0.554 / 0.56, "MISSED"),
        ("evaluating 1,000", 85.0, "bar met"),
    ]
    for begins, value, verdict in judged:
        found = next(seen for what, seen in verdicts.items() if what.startswith(begins))
        assert found[0] is not None and abs(found[0] - value) < 1e-6, begins
        assert found[1] == verdict, begins


def test_a_row_without_its_stage_says_why() -> None:
    facts = {name: fact for name, fact in FACTS.items() if name != "speed"}
    found = rows(Outcome(facts=facts, failed={"speed": "CommandFailed: no memory"}))
    speed = next(row for row in found if row.what.startswith("30 % removed"))
    assert speed.verdict == "not measured" and speed.detail == "speed: CommandFailed: no memory"
    assert len(found) == len(rows(Outcome(facts=FACTS, failed={})))


def test_the_ceiling_is_the_share_of_parameters_that_is_left() -> None:
    assert ceiling({"parent_parameters": 134_515_008, "parameters": 94_160_506}) == 134_515_008 / 94_160_506


def test_the_report_has_the_table_what_fell_short_and_a_page_of_plots(tmp_path: Path) -> None:
    outcome = Outcome(facts=FACTS, failed={"quantise": "left out"})
    path = write(tmp_path, "small", rows(outcome), outcome, {"date": "2026-11-25"}, ["a quiet machine"])
    text = path.read_text(encoding="utf-8")
    assert "MISSED" in text and "- stage quantise: left out" in text and "- a quiet machine" in text
    assert json.loads(path.with_suffix(".json").read_text())["stages"]["teacher"]["task"] == 0.80
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
