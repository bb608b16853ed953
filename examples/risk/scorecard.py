"""A scorecard from a table of applicants: bins, points, and what a supervisor asks of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.preprocessing import OneHotEncoder, StandardScaler

PROTECTED = ("personal_status_and_sex", "age_in_years", "foreign_worker")
"""Not in any model here; the adverse impact is measured by the first two."""
LABEL = "creditability"
POINTS = 20 / math.log(2)
"""Twenty points double the odds."""
COST_OF_DEFAULT, COST_OF_REFUSAL = 5, 1
"""Costs of a credit that is lost and of a good one refused, as the data set's documentation gives them."""
MOST_BYTES, MOST_ROWS, MOST_CELL = 64 << 20, 200_000, 200
Row = dict[str, Any]


class WrongTable(ValueError):
    """A table that is not used."""


def read_table(path: Path) -> tuple[list[Row], np.ndarray[Any, Any]]:
    """Return applicants, and which of them did not pay back.

    Numbers are finite numbers. A cell that a spreadsheet would compute (=, +, -, @ before anything else than a number)
    is refused, since reports of such tables are opened in spreadsheets.
    """
    if path.stat().st_size > MOST_BYTES:
        raise WrongTable(f"{path.name} has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read")
    rows: list[Row] = []
    bad = []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names = reader.fieldnames or []
        if LABEL not in names or len(set(names)) != len(names):
            raise WrongTable(f"{path.name} has columns {names[:5]}…; expected {LABEL} and each name once")
        for number, raw in enumerate(reader, 2):
            if len(rows) >= MOST_ROWS or None in raw or None in raw.values():
                raise WrongTable(f"line {number} of {path.name} has too few or too many cells, or is beyond the limit")
            row: Row = {name: _cell(text, f"line {number}, {name}") for name, text in raw.items()}
            label = str(row.pop(LABEL))
            if label not in ("good", "bad"):
                raise WrongTable(f"line {number}, {LABEL}: {label[:40]!r}; expected good or bad")
            rows.append(row)
            bad.append(label == "bad")
    return rows, np.array(bad)


def _cell(text: str, where: str) -> str | float:
    if len(text) > MOST_CELL:
        raise WrongTable(f"{where}: a cell of {len(text):,} characters; at most {MOST_CELL} are read")
    try:
        number = float(text)
    except ValueError:
        if text[:1] in "=+-@\t\r" and text:
            raise WrongTable(f"{where}: {text[:40]!r} is a formula of a spreadsheet; expected a value") from None
        return text
    if not math.isfinite(number):
        raise WrongTable(f"{where}: {text[:40]!r}; expected a finite number")
    return number


def columns(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return the names of numbers and of categories that a model may see."""
    names = [name for name in rows[0] if name not in PROTECTED]
    numbers = [name for name in names if all(isinstance(row[name], float) for row in rows)]
    return numbers, [name for name in names if name not in numbers]


def form_of(rows: Sequence[Row], bins: int) -> dict[str, Any]:
    """Return the form of a head: numbers in bins of about equal size, categories as they are."""
    numbers, categories = columns(rows)
    features: list[dict[str, Any]] = []
    for name in numbers:
        values = np.array([row[name] for row in rows])
        few = np.unique(values)
        edges = few[1:] if len(few) <= 6 else np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
        features.append({"name": name, "kind": "binned", "edges": edges.tolist()})
    for name in categories:
        features.append({"name": name, "kind": "category", "values": sorted({str(row[name]) for row in rows})})
    return {"title": "consumer credit", "features": features, "below": "refuse"}


def design(form: dict[str, Any], rows: Sequence[Row]) -> np.ndarray[Any, Any]:
    """Return rows as the head turns them into whole numbers; a value that the form does not know is left at 0."""
    parts = []
    for one in form["features"]:
        values = [row[one["name"]] for row in rows]
        if one["kind"] == "binned":
            place, width = np.searchsorted(one["edges"], values, side="right"), len(one["edges"]) + 1
        else:
            known = {value: at for at, value in enumerate(one["values"])}
            place, width = np.array([known.get(value, -1) for value in values]), len(known)
        parts.append((place[:, None] == np.arange(width)).astype(float))
    return np.hstack(parts)


def fit(rows: Sequence[Row], bad: np.ndarray[Any, Any], bins: int) -> tuple[dict[str, Any], Any, int]:
    """Return form, points and bias of a scorecard; 0 points and more means approve. Its strictness is chosen by
    cross-validation, its threshold by the costs, both on these rows alone."""
    form = form_of(rows, bins)
    x_RF = design(form, rows)
    model = LogisticRegressionCV(Cs=[0.02, 0.05, 0.1, 0.3], cv=5, scoring="roc_auc", max_iter=2000,
                                 l1_ratios=(0,), use_legacy_attributes=False).fit(x_RF, bad)  # fmt: skip
    points = np.rint(-POINTS * model.coef_[0]).astype(int)
    raw = x_RF @ points
    costs = [(COST_OF_DEFAULT * bad[raw >= at].sum() + COST_OF_REFUSAL * (~bad[raw < at]).sum(), at) for at in {*raw}]
    threshold = int(min(costs)[1])
    form["decisions"] = [{"name": "approve", "at_least": 0}]
    return form, points, -threshold


def regression(rows: Sequence[Row], bad: np.ndarray[Any, Any]) -> Any:
    """Return the baseline, a logistic regression on the same columns, as a function of rows."""
    numbers, categories = columns(rows)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoder.fit([[r[n] for n in categories] for r in rows])
    scaler = StandardScaler().fit([[r[n] for n in numbers] for r in rows])

    def table(some: Sequence[Row]) -> Any:
        one = encoder.transform([[r[n] for n in categories] for r in some])
        return np.hstack([one, scaler.transform([[r[n] for n in numbers] for r in some])])

    model = LogisticRegressionCV(Cs=[0.02, 0.05, 0.1, 0.3], cv=5, scoring="roc_auc", max_iter=2000,
                                 l1_ratios=(0,), use_legacy_attributes=False).fit(table(rows), bad)  # fmt: skip
    return lambda some: model.decision_function(table(some))


def shares(form: dict[str, Any], feature: dict[str, Any], rows: Sequence[Row]) -> np.ndarray[Any, Any]:
    """Return which share of rows is in each bin of a feature."""
    return design({**form, "features": [feature]}, rows).mean(axis=0)


def psi(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> float:
    """Return the population stability index: under 0.1 is stable, from 0.25 on a shift."""
    one, other = np.maximum(before, 1e-3), np.maximum(after, 1e-3)
    return float(((other - one) * np.log(other / one)).sum())


def impact(approved: np.ndarray[Any, Any], group: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Return the approval rates of a group and of the others, and their ratio: the four-fifths rule asks for 0.8."""
    mine, others = float(approved[group].mean()), float(approved[~group].mean())
    return mine, others, mine / others
