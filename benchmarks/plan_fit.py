"""Fit the planner's efficiencies to published measurements, and say how far it misses what it was not fitted to.

`python benchmarks/plan_fit.py --points points.csv` writes `src/ashore/planning/sizing/efficiencies.json`. It takes some
minutes on one core and needs scikit-learn (extra `bench`). Rows of grade C, and devices that nobody names, are not
fitted to.

Three ways to hold out, each in folds: pairs of model and device, whole models, whole devices. What is missed there
gives the intervals and the errors that every plan prints. The shipped numbers are then fitted to all rows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from ashore.planning.sizing.calibration import calibration_of, device_name, estimate
from ashore.planning.sizing.case import Case
from ashore.planning.sizing.points import Point, read_points
from ashore.planning.sizing.residual import QUANTITIES, features, logarithms
from ashore.planning.sizing.steps import COEFFICIENTS, LEVELS, Batch, Efficiencies, make_batch, times

GRADES = ("A", "B")
WEIGHTS = np.array([0.6, 1.0, 0.5])
"""Of a first token, a time a token, a speed: how much a miss counts."""
CORNER = 0.15
"""Misses in logarithms beyond this count by their size, not by its square."""
HELD_TO_START, HELD_TO_NONE = 0.9, 9.0
"""How strongly a value stays where it begins, and a deviation stays at nothing."""
LEAST_OF_CHIP = 25
BOOST: dict[str, Any] = {
    "loss": "absolute_error",
    "max_iter": 120,
    "learning_rate": 0.06,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 20,
    "l2_regularization": 10,
    "random_state": 0,
}
TREE_WEIGHT = 1.0
FOLDS: Mapping[str, int] = {"pair": 6, "family": 8, "hardware": 8}

Column = tuple[str, str, str]
"""Level (empty: for all), entry, coefficient."""


@dataclass(frozen=True)
class Data:
    """Points that can be planned and are good enough to fit to."""

    points: tuple[Point, ...]
    cases: tuple[Case, ...]
    batch: Batch
    measured: np.ndarray
    """Logarithms, NaN where there is none."""

    def take(self, mask: np.ndarray) -> Data:
        chosen = np.arange(len(self.points))[mask]
        return Data(
            tuple(self.points[i] for i in chosen),
            tuple(self.cases[i] for i in chosen),
            self.batch.take(mask),
            self.measured[mask],
        )


def read_data(path: Path) -> Data:
    points = tuple(p for p in read_points(path) if p.case is not None and p.grade in GRADES)
    cases = tuple(p.case for p in points if p.case is not None)
    measured = np.array(
        [[np.log(v) if v else np.nan for v in (p.first_s, p.token_s, p.tokens_per_s)] for p in points], dtype=float
    )
    return Data(points, cases, make_batch(cases), measured)


def columns_of(batch: Batch) -> list[Column]:
    found: list[Column] = [("", "", name) for name in COEFFICIENTS]
    for level, names in LEVELS.items():
        for entry in batch.entries[level]:
            number = int(batch.has(level, entry).sum())
            if entry and number >= (LEAST_OF_CHIP if level == "chip" else 1):
                found += [(level, entry, name) for name in sorted(names)]
    return found


def efficiencies_of(columns: Sequence[Column], values: np.ndarray) -> Efficiencies:
    base: dict[str, float] = {}
    effects: dict[str, dict[str, dict[str, float]]] = {}
    for (level, entry, name), value in zip(columns, values, strict=True):
        if level:
            effects.setdefault(level, {}).setdefault(entry, {})[name] = round(float(value), 5)
        else:
            base[name] = round(float(value), 5)
    return Efficiencies(base, effects)


def fit_physics(batch: Batch, measured: np.ndarray, *, rounds: int = 10) -> Efficiencies:
    """Return the efficiencies of the least misses: damped Gauss-Newton steps with misses that count by their size."""
    columns = columns_of(batch)
    start = np.array([0.0 if level else np.log(COEFFICIENTS[name][0]) for level, _, name in columns])
    held = np.array([HELD_TO_NONE if level else HELD_TO_START for level, _, _ in columns]) ** 2 / 2
    there = ~np.isnan(measured)
    parts: dict[tuple[str, str], tuple[np.ndarray, Batch]] = {}
    for level, entry, _ in columns:
        if level and (level, entry) not in parts:
            mask = batch.has(level, entry)
            parts[level, entry] = (np.where(mask)[0], batch.take(mask))

    def said(part: Batch, values: np.ndarray) -> np.ndarray:
        return logarithms(times(part, efficiencies_of(columns, values)))

    def missed(values: np.ndarray) -> tuple[np.ndarray, float]:
        left = np.where(there, (said(batch, values) - measured) * WEIGHTS, 0.0)
        size = np.abs(left)
        cost = np.where(size < CORNER, size**2 / (2 * CORNER), size - CORNER / 2).sum()
        return left, float(cost + (held * (values - start) ** 2).sum() / 2)

    values, damping, small = start.copy(), 1.0, 1e-3
    left, cost = missed(values)
    for _ in range(rounds):
        slopes = np.zeros((len(batch), 3, len(columns)))
        here = said(batch, values)
        for number, (level, entry, _) in enumerate(columns):
            moved = values.copy()
            moved[number] += small
            rows, part = parts[level, entry] if level else (np.arange(len(batch)), batch)
            slope = (said(part, moved) - here[rows]) / small * WEIGHTS
            slopes[rows, :, number] = np.where(there[rows], slope, 0.0)
        jacobian, residual = slopes.reshape(-1, len(columns)), left.ravel()
        weight = 1 / np.maximum(np.abs(residual), CORNER)
        curve = (jacobian * weight[:, None]).T @ jacobian + np.diag(held)
        slope = jacobian.T @ (weight * residual) + held * (values - start)
        for _ in range(6):
            step = np.linalg.solve(curve + damping * np.diag(np.diag(curve) + 1e-3), -slope)
            tried = values + np.clip(step, -1, 1)
            left_then, cost_then = missed(tried)
            if cost_then < cost:
                break
            damping *= 4
        else:
            break
        gained = cost - cost_then
        values, left, cost, damping = tried, left_then, cost_then, max(damping / 4, 1e-4)
        if gained < 1e-3 * cost:
            break
    return efficiencies_of(columns, values)


def fit_trees(batch: Batch, measured: np.ndarray, efficiencies: Efficiencies) -> dict[str, dict[str, Any]]:
    found = times(batch, efficiencies)
    seen, said = features(batch, found), logarithms(found)
    trees = {}
    for number, name in enumerate(QUANTITIES):
        there = ~np.isnan(measured[:, number])
        left = np.clip(measured[there, number] - said[there, number], -1.5, 1.5)
        trees[name] = _plain_trees(HistGradientBoostingRegressor(**BOOST).fit(seen[there], left))
    return trees


def _plain_trees(model: HistGradientBoostingRegressor) -> dict[str, Any]:
    table: dict[str, list[Any]] = {name: [] for name in ("roots", "feature", "threshold", "left", "right", "value")}
    for (tree,) in model._predictors:
        first = len(table["value"])
        table["roots"].append(first)
        for node in tree.nodes:
            leaf = bool(node["is_leaf"])
            table["feature"].append(int(node["feature_idx"]))
            table["threshold"].append(0.0 if leaf else float(f"{node['num_threshold']:.6g}"))
            table["left"].append(-1 if leaf else first + int(node["left"]))
            table["right"].append(-1 if leaf else first + int(node["right"]))
            table["value"].append(round(float(node["value"]), 5) if leaf else 0.0)
    return {**table, "baseline": round(float(np.ravel(model._baseline_prediction)[0]), 5)}


def fit(data: Data, *, rounds: int = 10) -> dict[str, Any]:
    """Return a calibration without intervals and errors."""
    efficiencies = fit_physics(data.batch, data.measured, rounds=rounds)
    seen: dict[str, list[str]] = {}
    for device, model in sorted({(device_name(case), case.network.name) for case in data.cases}):
        seen.setdefault(device, []).append(model)
    return {
        "base": efficiencies.base,
        "effects": efficiencies.effects,
        "trees": fit_trees(data.batch, data.measured, efficiencies),
        "tree_weight": TREE_WEIGHT,
        "seen": seen,
        "intervals": {},
        "misses": {},
        "overall": {},
        "fitted_on": "",
    }


def hold_out(data: Data, kind: str, seed: int = 0) -> np.ndarray:
    """Return the logarithms that are planned for each point by a fit that has not seen its group."""

    names = [_group(case, kind) for case in data.cases]
    order = np.random.default_rng(seed).permutation(len(set(names)))
    fold = {name: int(order[i]) % FOLDS[kind] for i, name in enumerate(sorted(set(names)))}
    which = np.array([fold[name] for name in names])
    planned = np.full(data.measured.shape, np.nan)
    for number in range(FOLDS[kind]):
        told = fit(data.take(which != number), rounds=7)
        planned[which == number] = np.log(estimate(data.take(which == number).cases, calibration_of(told)).value)
        print(f"{kind} fold {number + 1} of {FOLDS[kind]}", file=sys.stderr, flush=True)
    return planned


def _group(case: Case, kind: str) -> str:
    device, model = device_name(case), case.network.name
    return {"pair": f"{device} {model}", "family": model, "hardware": device}[kind]


def miss(planned: np.ndarray, measured: np.ndarray) -> tuple[float | None, float | None, float | None, int]:
    error = np.abs(np.exp(planned - measured) - 1)
    medians = [
        round(100 * float(np.median(column[~np.isnan(column)])), 1) if (~np.isnan(column)).any() else None
        for column in error.T
    ]
    return medians[0], medians[1], medians[2], len(measured)


def intervals(kinds: Mapping[str, np.ndarray], data: Data) -> dict[str, list[list[float]]]:
    """Return, by trust and load, what 10 and 90 of a hundred held-out points lie below, beside what was planned."""
    trust = {"fitted": "row", "neighbour": "pair", "new model": "family", "new device": "hardware"}
    loads = np.array(["official" if case.official else case.load_kind for case in data.cases])
    found = {}
    for name, kind in trust.items():
        left = data.measured - kinds[kind]
        for load in ("", *sorted(set(loads))):
            rows = loads == load if load else np.full(len(loads), True)
            bounds = [_bounds(column[rows], column) for column in left.T]
            found[f"{name} {load}".strip()] = bounds
    return found


def _bounds(rows: np.ndarray, whole: np.ndarray) -> list[float]:
    there = rows[~np.isnan(rows)]
    there = there if len(there) >= 25 else whole[~np.isnan(whole)]
    return [round(float(np.quantile(there, q)), 4) for q in (0.1, 0.9)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/ashore/planning/sizing/efficiencies.json"))
    parser.add_argument(
        "--keep-errors", action="store_true", help="fit anew, and keep the errors and intervals of --out"
    )
    args = parser.parse_args()
    began = time.monotonic()
    data = read_data(args.points)
    told = fit(data)
    if args.keep_errors:
        before = json.loads(args.out.read_text())
        told |= {name: before[name] for name in ("intervals", "misses", "overall")}
    else:
        kinds = {kind: hold_out(data, kind) for kind in FOLDS}
        kinds["row"] = hold_out_rows(data)
        told["intervals"] = intervals(kinds, data)
        told["overall"] = {kind: miss(planned, data.measured) for kind, planned in kinds.items()}
        told["misses"] = {kind: by_name(data, kinds[kind], kind) for kind in ("hardware", "family")}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    told["fitted_on"] = f"{len(data.points):,} published measurements, {today}"
    args.out.write_text(json.dumps(told, separators=(",", ":"), sort_keys=True) + "\n")
    for kind, (first, token, speed, number) in told["overall"].items():
        print(f"held out by {kind}: first token {first} %, a token {token} %, speed {speed} % ({number} points)")
    print(f"{time.monotonic() - began:.0f} s, {args.out} {args.out.stat().st_size:,} bytes")


def hold_out_rows(data: Data) -> np.ndarray:
    """Return the plans of points whose setting is known, but not this point: by rows, in five folds."""

    which = np.random.default_rng(1).integers(0, 4, len(data.points))
    planned = np.full(data.measured.shape, np.nan)
    for number in range(4):
        told = fit(data.take(which != number), rounds=7)
        planned[which == number] = np.log(estimate(data.take(which == number).cases, calibration_of(told)).value)
    return planned


def by_name(data: Data, planned: np.ndarray, kind: str) -> dict[str, Any]:
    names = np.array([_group(case, kind) for case in data.cases])
    return {name: miss(planned[names == name], data.measured[names == name]) for name in sorted(set(names))}


if __name__ == "__main__":
    main()
