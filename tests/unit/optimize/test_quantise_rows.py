"""The rows of the benchmark on quantising, from invented facts: what is divided by what, and what is told when it is
missing."""

from __future__ import annotations

import pytest
from benchmarks.optimise.quantise import gguf_rows, rows
from benchmarks.optimise.stages import Outcome

FACTS = {
    "make_int8": {"weight_bytes": 100, "parameters": 98, "seconds": 3},
    "make_int4": {"weight_bytes": 65, "parameters": 98, "seconds": 3},
    "judge_fp16": {"served": 20.01, "exact": 20.0},
    "judge_int8": {"served": 20.1, "exact": 20.02},
    "judge_int4": {"served": 21.0, "exact": 20.9},
    "speed": {"median": {"int8": 130.0, "int8-g96": 120.0, "fp16": 70.0, "int4": 150.0}},
    "torch_eager": {"tok_per_s": 20.0, "perplexity": 20.0},
    "torch_compile": {"tok_per_s": 26.0, "perplexity": 20.0},
    "torch_dynamic": {"tok_per_s": 50.0, "perplexity": 60.0},
}


def judged(facts: dict[str, object], failed: dict[str, str] | None = None) -> dict[str, tuple[float | None, str, str]]:
    table = rows(Outcome(facts=facts, failed=failed or {}), model="demo")  # type: ignore[arg-type]
    return {row.what.removeprefix("demo: "): (row.value, row.verdict, row.detail) for row in table}


def test_each_row_divides_the_right_figures() -> None:
    table = judged(dict(FACTS))
    assert table["INT8, times smaller than FP32"][0] == pytest.approx(3.92)
    assert table["INT8 as served, perplexity above F16"][0] == pytest.approx(0.5)
    assert table["INT8 in F32 arithmetic, perplexity above F16"][:2] == (pytest.approx(0.1), "aim met")
    assert table["INT8, one stream, against PyTorch FP32 eager"][:2] == (pytest.approx(6.5), "aim met")
    value, verdict, detail = table["INT8, one stream, against PyTorch quantize_dynamic"]
    assert value == pytest.approx(2.6) and verdict == "bar met" and "60.00, +200 %" in detail
    assert table["INT4, times smaller than FP32"][1] == "bar met"
    assert table["INT4 as served, perplexity above F16"][:2] == (pytest.approx(5.0), "aim met")


def test_a_row_without_its_stage_says_why() -> None:
    facts = {name: each for name, each in FACTS.items() if name != "make_int4"}
    value, verdict, detail = judged(facts, {"make_int4": "no room"})["INT4, times smaller than FP32"]
    assert value is None and verdict == "not measured" and detail == "make_int4: no room"


def test_forms_of_llama_cpp_stand_against_their_reference() -> None:
    facts = {
        "judge_pulled": {"served": 10.0},
        "make_q8_0": {"weight_bytes": 100, "parameters": 94, "seconds": 1},
        "judge_q8_0": {"served": 10.1},
    }
    outcome = Outcome(facts=facts, failed={"make_q4_k_m": "broken"})  # type: ignore[arg-type]
    first, *others = gguf_rows(outcome, model="second", reference="judge_pulled", how="served")
    assert first.value == pytest.approx(1.0) and first.detail.startswith("3.76 times smaller")
    assert all(row.value is None and "broken" in row.detail for row in others)
