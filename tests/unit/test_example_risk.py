"""The bank's example: a table that lies is refused, points add up, and the letter holds no number of its own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scorecard(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("risk.scorecard")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, scorecard: Any) -> Any:
    return importlib.import_module("risk.run")


def table(folder: Path, *lines: str) -> Path:
    path = folder / "t.csv"
    path.write_text("\n".join(("amount,purpose,age_in_years,creditability", *lines)) + "\n")
    return path


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("=1+1,car,30,good", "line 3, amount: '=1\\+1' is a formula"),
        ("@SUM(A1),car,30,good", "formula"),
        ("100,\"=cmd|' /C calc'!A0\",30,good", "line 3, purpose"),
        ("nan,car,30,good", "expected a finite number"),
        ("1e999,car,30,good", "expected a finite number"),
        ("100,car,30", "line 3 of t.csv has too few"),
        ("100,car,30,good,5", "too many"),
        ("100,car,30,maybe", "expected good or bad"),
        (f"100,{'x' * 300},30,good", "300 characters"),
    ],
)
def test_a_table_that_lies_is_refused_by_its_line(scorecard: Any, tmp_path: Path, line: str, seen: str) -> None:
    with pytest.raises(scorecard.WrongTable, match=seen):
        scorecard.read_table(table(tmp_path, "-5,car,30,good", line))


def test_a_huge_table_is_not_read(scorecard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorecard, "MOST_ROWS", 1)
    with pytest.raises(scorecard.WrongTable, match="beyond the limit"):
        scorecard.read_table(table(tmp_path, "1,car,30,good", "1,car,30,good"))
    monkeypatch.setattr(scorecard, "MOST_BYTES", 9)
    with pytest.raises(scorecard.WrongTable, match="at most 9"):
        scorecard.read_table(table(tmp_path, "1,car,30,good"))


def made(number: int = 400) -> tuple[list[dict[str, Any]], Any]:
    random = np.random.default_rng(0)
    amounts, purposes = random.uniform(0, 9, number), random.choice(["car", "house"], number)
    rows: list[dict[str, Any]] = [
        {"amount": float(amount), "purpose": str(purpose), "age_in_years": 30.0}
        for amount, purpose in zip(amounts, purposes, strict=True)
    ]
    return rows, np.array([random.uniform(0, 9) < row["amount"] for row in rows])


def test_a_card_leaves_out_what_is_protected_and_ranks_better_than_chance(scorecard: Any) -> None:
    rows, bad = made()
    form, points, bias = scorecard.fit(rows, bad, 4)
    assert [one["name"] for one in form["features"]] == ["amount", "purpose"]
    scores = scorecard.design(form, rows) @ points + bias
    assert scores[bad].mean() < scores[~bad].mean() and points.dtype.kind == "i"
    assert 0 < (scores >= 0).mean() < 1


def test_columns_and_values_are_words(example: Any) -> None:
    assert example.named("duration_in_month") == "duration in months" and example.named("purpose") == "purpose"
    said = [example.worded(one) for one in (5951.0, 1234567.0, "0 <= ... < 200 DM", "... >= 7 years", "... < 1 year")]
    assert said == ["5,951", "1,234,567", "from 0 to under 200 DM", "at least 7 years", "under 1 year"]


def test_drift_and_impact(scorecard: Any) -> None:
    assert scorecard.psi(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0
    assert scorecard.psi(np.array([0.5, 0.5]), np.array([0.9, 0.1])) > 0.25
    mine, others, ratio = scorecard.impact(np.array([True, False, True, True]), np.array([True, True, False, False]))
    assert (mine, others, ratio) == (0.5, 1.0, 0.5)


@pytest.mark.parametrize(
    ("text", "faithful"),
    [
        ("Your amount (900) was high. Your purpose (car) too.", True),
        ("Your amount (900) was high.", False),
        ("Your amount (900) is above 500. Your purpose (car) too.", False),
        ("Your amount (900) was accepted. Your purpose (car) too.", False),
    ],
)
def test_a_letter_adds_no_number_and_no_promise(example: Any, text: str, faithful: bool) -> None:
    assert example.is_faithful(text, ["amount (900)", "purpose (car)"]) is faithful


def test_the_reasons_are_the_points_lost_against_the_best_bin(example: Any) -> None:
    form = {"features": [{"name": "a", "kind": "binned", "edges": [1.0]},
                         {"name": "b", "kind": "category", "values": ["x", "y"]}]}  # fmt: skip
    lost = example.against(form, [5, -3, 7, 9], {"base": 0, "a": -3, "b": 7}, {"a": 2.0, "b": "x"})
    assert lost == [("a", 2.0, 8), ("b", "x", 2)]
