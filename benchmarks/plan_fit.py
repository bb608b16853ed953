"""Fit the planner's efficiencies to published measurements, and say how far it misses what it was not fitted to.

`python -m benchmarks.plan_fit --points points.csv` writes `efficiencies.json` and `measured.json` of
`src/ashore/lab/sizing`. It takes a minute on one core. Rows of grade C, and devices that nobody names, are not
fitted to.

Each of ten folds leaves out pairs of model and device, whole models, whole devices, set-ups and single rows. What is
missed there gives the intervals and the errors that every plan prints. The shipped numbers are then fitted to all rows.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import multiprocessing
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.plan_thumbs import thumbs

from ashore.lab.sizing.calibration import Calibration, Trust, calibration_of, correct, estimate, logarithms
from ashore.lab.sizing.case import Case
from ashore.lab.sizing.check import check
from ashore.lab.sizing.nearby import device_name, measurements_of, tell
from ashore.lab.sizing.points import Point, read_points
from ashore.lab.sizing.steps import COEFFICIENTS, LEVELS, Batch, Efficiencies, make_batch, times

GRADES = ("A", "B")
WEIGHTS = np.array([1.0, 1.0, 0.5])
"""Of a first token, a time a token, a speed: how much a miss counts."""
CROWD = 0.5
COLD = 0.2
"""How much a first token counts that came earlier under a higher load: its measurement began cold."""
UNSTEADY = 0.15
"""How much a burst counts, a peak, and a rate that was raised to a level."""
CORNER = np.array([0.3, 0.05, 0.05])
"""Misses in logarithms beyond this count by their size, not by its square."""
SPREAD: Mapping[str, float] = {
    "bandwidth": 0.12,
    "layer_s": 0.6,
    "step_s": 0.6,
    "token_s": 0.5,
    "decode_flops": 0.3,
    "prefill_flops": 0.35,
    "reduce_s": 0.4,
    "link": 0.3,
    "first_s": 1.0,
    "launch_s": 1.0,
    "mix": 0.25,
    "queue": 0.8,
    "crowd": 0.4,
    "surge": 1.0,
    "steps": 0.5,
    "lump": 0.5,
    "near_first": 0.5,
    "near_token": 0.05,
    "tail_first": 0.3,
    "official": 0.2,
    "arrive_s": 1.0,
    "room": 0.2,
    "cache": 0.25,
    "slots": 0.3,
    "expert_bandwidth": 0.2,
}
"""How far, as a logarithm, a coefficient differs between engines, devices, forms."""
SHARE: Mapping[str, float] = {
    "engine": 1.4,
    "form": 0.9,
    "engine with form": 0.7,
    "engine with precision": 2.5,
    "vendor": 1.0,
    "year": 0.5,
}
"""How much of that a level makes."""
SPREAD_OF_ALL = 1.2
"""The same of the value for all, about where it begins."""
HELD = 4.0
"""How much those beliefs count against a miss."""
LEAST = 8
"""Measurements that an engine, a device, a form needs to be told from its relatives."""
MOST_LEFT = 2.0
"""A measurement that is further off, as a logarithm, moves its neighbours no more than this."""
BOUNDS = (0.08, 0.92)
"""Quantiles of what is missed in the folds. Models and devices differ more than their points do, so that these hold
four of five points of a set of new ones."""
FOLDS = 10
MIXED_SETS = 6
KINDS: Mapping[Trust, str] = {
    "measured": "row", "fitted": "setup", "neighbour": "pair", "new model": "family", "new device": "hardware",
}  # fmt: skip
"""What was held out for each degree of trust."""

Column = tuple[str, str, str]
"""Level (empty: for all), entry, coefficient."""


@dataclass(frozen=True)
class Data:
    """Points that can be planned and are good enough to fit to."""

    points: tuple[Point, ...]
    lines: tuple[int, ...]
    """Places of the points in the file, from 0."""
    cases: tuple[Case, ...]
    batch: Batch
    measured: np.ndarray
    """Logarithms, NaN where there is none."""
    weight: np.ndarray
    """How much a miss of each figure counts."""

    def take(self, mask: np.ndarray) -> Data:
        chosen = np.arange(len(self.points))[mask]
        return Data(
            tuple(self.points[i] for i in chosen),
            tuple(self.lines[i] for i in chosen),
            tuple(self.cases[i] for i in chosen),
            self.batch.take(mask),
            self.measured[mask],
            self.weight[mask],
        )


def read_data(path: Path) -> Data:
    read = tuple((i, p) for i, p in enumerate(read_points(path)) if p.case is not None and p.grade in GRADES)
    lines, points = tuple(i for i, _ in read), tuple(p for _, p in read)
    cases = tuple(p.case for p in points if p.case is not None)
    measured = np.array(
        [[np.log(v) if v else np.nan for v in (p.first_s, p.token_s, p.tokens_per_s)] for p in points], dtype=float
    )
    return Data(points, lines, cases, make_batch(cases), measured, _weights(points, cases, measured))


def _weights(points: Sequence[Point], cases: Sequence[Case], measured: np.ndarray) -> np.ndarray:
    """Return how much each figure counts: less of grade B and of unsteady loads, little where they differ.

    A hundred points of one model on one device by one engine say less than a hundred of a hundred, so that each of them
    counts by the root of their number.

    Under a closed load, requests at once over the time of one are the throughput. Where a row says something else by
    more than a factor of 1.6, its time a token is of something else (drafts, chunks).
    """
    groups = [(device_name(case), case.network.name, case.engine, case.load_kind) for case in cases]
    _, group, count = np.unique(np.array(groups), axis=0, return_inverse=True, return_counts=True)
    crowd = count[group.ravel()] ** -CROWD
    weight = np.outer(crowd / crowd.mean(), WEIGHTS)
    for row, (point, case) in enumerate(zip(points, cases, strict=True)):
        weight[row] *= 0.4 if point.grade == "B" else 1.0
        weight[row] *= UNSTEADY if case.load_kind in ("burst", "saturated") or case.level else 1.0
        if case.load_kind == "closed" and not np.isnan(measured[row]).any():
            first, token, speed = np.exp(measured[row])
            said = case.load * case.osl / (first + (case.osl - 1) * token)
            if not 1 / 1.6 < said / speed < 1.6:
                weight[row, 1] *= 0.1
    weight[_began_cold(cases, measured), 0] *= COLD
    return weight


def _began_cold(cases: Sequence[Case], measured: np.ndarray) -> np.ndarray:
    """Return which first tokens came later than those of the same setting under a higher load."""
    series: dict[Case, list[int]] = {}
    for row, case in enumerate(cases):
        if case.load_kind == "closed" and not np.isnan(measured[row, 0]):
            series.setdefault(replace(case, load=0.0), []).append(row)
    cold = np.zeros(len(cases), dtype=bool)
    for rows in series.values():
        for row in rows:
            higher = [measured[other, 0] for other in rows if cases[other].load > cases[row].load]
            cold[row] = bool(higher) and measured[row, 0] > min(higher)
    return cold


def columns_of(batch: Batch) -> list[Column]:
    found: list[Column] = [("", "", name) for name in COEFFICIENTS]
    for level in SHARE:
        for entry in batch.entries[level]:
            if entry and int(batch.has(level, entry).sum()) >= LEAST:
                found += [(level, entry, name) for name in sorted(LEVELS[level])]
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


def _held(level: str, name: str) -> float:
    spread = SHARE[level] * SPREAD[name] if level else SPREAD_OF_ALL
    return HELD / spread**2


def fit_physics(data: Data, *, rounds: int = 10) -> Efficiencies:
    """Return the efficiencies of the least misses: damped Gauss-Newton steps with misses that count by their size."""
    batch, measured, weights = data.batch, data.measured, data.weight
    columns = columns_of(batch)
    start = np.array([0.0 if level else np.log(COEFFICIENTS[name][0]) for level, _, name in columns])
    held = np.array([_held(level, name) for level, _, name in columns])
    there = ~np.isnan(measured)
    masks = {(level, entry): batch.has(level, entry) for level, entry, _ in columns if level}
    places = {name: at for at, (level, _, name) in enumerate(columns) if not level}
    kept = np.flatnonzero(there.ravel())
    corner = np.broadcast_to(CORNER, there.shape).ravel()[kept]

    def said(values: np.ndarray) -> np.ndarray:
        return logarithms(times(batch, efficiencies_of(columns, values)))

    def slopes_at(values: np.ndarray, here: np.ndarray, small: float = 1e-3) -> np.ndarray:
        """A deviation moves its rows as the value for all does: one look at each coefficient is enough."""
        whole = {}
        for name, at in places.items():
            moved = values.copy()
            moved[at] += small
            whole[name] = np.where(there, (said(moved) - here) / small * weights, 0.0)
        found = np.zeros((len(kept), len(columns)))
        for number, (level, entry, name) in enumerate(columns):
            slope = whole[name]
            if level:
                slope = slope * masks[level, entry][:, None]
            if level == "year":
                slope = slope * batch["year"][:, None]
            found[:, number] = slope.ravel()[kept]
        return found

    def missed(values: np.ndarray) -> tuple[np.ndarray, float]:
        left = np.where(there, (said(values) - measured) * weights, 0.0)
        size = np.abs(left)
        cost = np.where(size < CORNER, size**2 / (2 * CORNER), size - CORNER / 2).sum()
        return left, float(cost + (held * (values - start) ** 2).sum() / 2)

    values, damping = start.copy(), 1.0
    left, cost = missed(values)
    for _ in range(rounds):
        jacobian, residual = slopes_at(values, said(values)).astype(np.float32), left.ravel()[kept]
        weight = 1 / np.maximum(np.abs(residual), corner)
        curve = (jacobian * weight[:, None].astype(np.float32)).T @ jacobian + np.diag(held)
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


def _left(data: Data, said: np.ndarray) -> np.ndarray:
    """Return the logarithms of measured over said. Where only a speed was measured, the time a token made it."""
    left = data.measured - said
    slower = (data.batch["closed"] > 0) & np.isnan(left[:, 1])
    left[slower, 1] = -left[slower, 2]
    return left


def fit(data: Data, *, rounds: int = 10) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a calibration without intervals and errors, and what is left of the measurements."""
    efficiencies = fit_physics(data, rounds=rounds)
    said = correct(data.batch, times(data.batch, efficiencies), np.zeros_like(data.measured))
    sources = [_publication(point.source) for point in data.points]
    measured = tell(data.cases, sources, np.clip(_left(data, said), -MOST_LEFT, MOST_LEFT))
    told = {
        "base": efficiencies.base,
        "effects": efficiencies.effects,
        "intervals": {},
        "misses": {},
        "overall": {},
        "fitted_on": "",
        "thumbs": "",
    }
    return told, measured


def _publication(source: str) -> str:
    """Return where a publication is: a repository, or a page."""
    address = source.split("#")[0].removeprefix("https://").removeprefix("http://")
    return "/".join(address.split("/")[:3]) if address.startswith("github.com/") else address


def folds_of(data: Data) -> list[np.ndarray]:
    """Return which points each fold leaves out: a tenth of the pairs, of the models, of the devices, some single rows.

    Every point is left out in two to five folds: with its pair, with all of its model, with all of its device, with its
    set-up, alone. So each fold leaves out a third, whole models and whole devices among them.
    """
    random = np.random.default_rng(7)
    left_out = [random.integers(0, 2 * FOLDS, len(data.points)) == number for number in range(FOLDS)]
    for kind in ("pair", "family", "hardware"):
        names = np.array([_group(case, kind) for case in data.cases])
        found, count = np.unique(names, return_counts=True)
        size = np.zeros(FOLDS)
        for at in np.argsort(-count + random.random(len(found))):
            number = int(np.argmin(size + random.random(FOLDS)))
            size[number] += count[at]
            left_out[number] |= names == found[at]
    setups = np.array(
        [f"{_group(c, 'pair')} {c.engine} {c.precision.name} {c.tp} {c.attention_dp}" for c in data.cases]
    )
    found, place = np.unique(setups, return_inverse=True)
    chosen = random.integers(0, 2 * FOLDS, len(found))[place.ravel()]
    return [rows | (chosen == number) for number, rows in enumerate(left_out)]


@dataclass(frozen=True)
class Held:
    """What was planned for points that the fit had not seen; one row for each point and fold that left it out."""

    rows: np.ndarray
    planned: np.ndarray
    """Logarithms."""
    trust: np.ndarray
    """How near the measurements each was."""


def hold_out(data: Data, jobs: int) -> Held:
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        found = list(pool.map(partial(_plan_fold, data), range(FOLDS)))
    rows, planned, trust = zip(*found, strict=True)
    return Held(np.concatenate(rows), np.concatenate(planned), np.concatenate(trust))


def _plan_fold(data: Data, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left_out = folds_of(data)[number]
    said = estimate(data.take(left_out).cases, _fitted(data.take(~left_out)))
    print(f"fold {number + 1} of {FOLDS}: {left_out.sum():,} points", file=sys.stderr, flush=True)
    return np.flatnonzero(left_out), np.log(said.value), np.array([KINDS[trust] for trust in said.trust])


def _fitted(data: Data, intervals: Mapping[str, Any] | None = None) -> Calibration:
    told, measured = fit(data)
    return calibration_of(told | {"intervals": intervals or {}}, measurements_of(measured))


def mixed_set(data: Data, number: int) -> np.ndarray:
    """Return nearly a third of the points: a third of them whole devices, a third whole models, the others single."""
    random = np.random.default_rng(1000 + number)
    left_out, size = np.zeros(len(data.points), dtype=bool), int(0.31 * len(data.points))
    for kind, share in (("hardware", 0.36), ("family", 0.68)):
        names = np.array([_group(case, kind) for case in data.cases])
        for name in random.permutation(np.unique(names)):
            more = (names == name) & ~left_out
            if left_out.sum() >= share * size:
                break
            if more.sum() <= 0.22 * len(names) and left_out.sum() + more.sum() <= (share + 0.08) * size:
                left_out |= more
    single = random.choice(np.flatnonzero(~left_out), size - int(left_out.sum()), replace=False)
    left_out[single] = True
    return left_out


def print_mixed(data: Data, bounds: Mapping[str, Any]) -> None:
    """Print what a fit to the other points misses of sets that hold all kinds of new things, and who is in `bounds`."""
    for number in range(MIXED_SETS):
        left_out = mixed_set(data, number)
        score = check(data.take(left_out).points, _fitted(data.take(~left_out), bounds)).whole
        medians = (score.ttft_median_percent, score.tpot_median_percent, score.tok_s_median_percent)
        print(
            f"mixed set {number + 1}, {score.num_points} points: first token {medians[0]} %, a token {medians[1]} %, "
            f"speed {medians[2]} %, in the intervals {score.covered_percent} %"
        )


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


def intervals(held: Held, data: Data) -> dict[str, list[list[float]]]:
    """Return, by trust and load, between what the held-out points lie, beside what was planned."""
    loads = np.array(["official" if case.official else case.load_kind for case in data.cases])[held.rows]
    left = data.measured[held.rows] - held.planned
    found = {}
    for name, kind in KINDS.items():
        near = held.trust == kind
        for load in ("", *sorted(set(loads))):
            rows = near & (loads == load) if load else near
            bounds = [_bounds(column[rows], column[near]) for column in left.T]
            found[f"{name} {load}".strip()] = bounds
    return found


def write_held(path: Path, held: Held, data: Data) -> None:
    with path.open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(("line", "trust", "first_s", "token_s", "tokens_per_s"))
        trust = {kind: name for name, kind in KINDS.items()}
        for row, planned, kind in zip(held.rows, held.planned, held.trust, strict=True):
            table.writerow((data.lines[row], trust[kind], *(f"{value:.6g}" for value in np.exp(planned))))


def _bounds(rows: np.ndarray, whole: np.ndarray) -> list[float]:
    there = rows[~np.isnan(rows)]
    there = there if len(there) >= 25 else whole[~np.isnan(whole)]
    return [round(float(np.quantile(there, q)), 4) for q in BOUNDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time")
    parser.add_argument("--out", type=Path, default=Path("src/ashore/lab/sizing/efficiencies.json"))
    parser.add_argument("--held", type=Path, help="write what was planned for what was left out here")
    parser.add_argument(
        "--keep-errors", action="store_true", help="fit anew, and keep the errors and intervals of --out"
    )
    parser.add_argument(
        "--mixed", action="store_true", help="judge sets of new devices, new models and single rows too"
    )
    args = parser.parse_args()
    began = time.monotonic()
    data = read_data(args.points)
    held = None if args.keep_errors else hold_out(data, args.jobs)  # forks, so before OpenMP has threads
    told, measured = fit(data)
    if held is None:
        before = json.loads(args.out.read_text())
        told |= {name: before[name] for name in ("intervals", "misses", "overall")}
    else:
        told["intervals"] = intervals(held, data)
        if args.held:
            write_held(args.held, held, data)
        told["overall"] = {
            kind: miss(held.planned[held.trust == kind], data.measured[held.rows[held.trust == kind]])
            for kind in KINDS.values()
        }
        told["misses"] = {kind: by_name(data, held, kind) for kind in ("hardware", "family", "pair")}
    told["thumbs"] = in_words(miss(np.log(thumbs(data.batch)), data.measured))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    told["fitted_on"] = f"{len(data.points):,} published measurements, {today}"
    args.out.write_text(json.dumps(told, separators=(",", ":"), sort_keys=True) + "\n")
    args.out.with_name("measured.json").write_text(json.dumps(measured, separators=(",", ":")) + "\n")
    for kind, (first, token, speed, number) in told["overall"].items():
        print(f"held out by {kind}: first token {first} %, a token {token} %, speed {speed} % ({number} points)")
    if args.mixed:
        print_mixed(data, told["intervals"])
    print(f"{time.monotonic() - began:.0f} s, {args.out} {args.out.stat().st_size:,} bytes")


def in_words(missed: tuple[float | None, float | None, float | None, int]) -> str:
    first, token, speed, _ = missed
    return (
        f"active weights over bandwidth misses a token by {token} %, operations over half of the data sheet the first "
        f"token by {first} %, and requests at once times that pace the throughput by {speed} % (medians)."
    )


def by_name(data: Data, held: Held, kind: str) -> dict[str, Any]:
    names = np.array([_group(data.cases[row], kind) for row in held.rows])
    found = {}
    for name in sorted(set(names)):
        rows = (names == name) & (~np.isin(held.trust, ("row", "setup")) if kind == "pair" else held.trust == kind)
        if rows.any():
            found[name] = miss(held.planned[rows], data.measured[held.rows[rows]])
    return found


if __name__ == "__main__":
    main()
