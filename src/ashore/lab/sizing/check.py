"""Compares the planner with any file of measurements."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ashore.lab.sizing.calibration import Calibration, estimate
from ashore.lab.sizing.networks import find_network
from ashore.lab.sizing.points import Point

NOT_PLANNED = 1.0
"""Error of a point that cannot be planned: 100 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Errors of the planner on a set of measurements. None where nothing of that kind was measured."""

    num_points: int
    num_not_planned: int
    ttft_median_percent: float | None
    tpot_median_percent: float | None
    tok_s_median_percent: float | None
    covered_percent: float | None
    """Share of the measured figures that are in their 80 % intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    whole: Score
    by_hardware: dict[str, Score]
    by_family: dict[str, Score]
    reasons: dict[str, int]
    """Why points could not be planned, and how many."""
    errors: npt.NDArray[np.float64]
    """Relative error of each point: first token, time a token, tokens a second; NaN where it was not measured."""


def check(points: Sequence[Point], calibration: Calibration | None = None) -> Report:
    """Plan every point and compare it with its measurement.

    Args:
        points: At least one.
        calibration: None: the shipped one.
    """
    measured = np.array(
        [
            [np.nan if value is None else value for value in (one.first_s, one.token_s, one.tokens_per_s)]
            for one in points
        ]
    )
    errors = np.where(np.isnan(measured), np.nan, NOT_PLANNED)
    inside = np.where(np.isnan(measured), np.nan, 0.0)
    planned = [number for number, one in enumerate(points) if one.case is not None]
    if planned:
        found = estimate([case for one in points if (case := one.case) is not None], calibration)
        seen = measured[planned]
        errors[planned] = np.abs(found.value / seen - 1)
        inside[planned] = np.where(np.isnan(seen), np.nan, (found.low <= seen) & (seen <= found.high))
    score = _Scorer(errors, inside, np.array([one.case is None for one in points]))
    hardware, family = defaultdict(list), defaultdict(list)
    for number, one in enumerate(points):
        hardware[one.hardware].append(number)
        family[family_of(one)].append(number)
    return Report(
        whole=score.of(list(range(len(points)))),
        by_hardware={name: score.of(rows) for name, rows in sorted(hardware.items())},
        by_family={name: score.of(rows) for name, rows in sorted(family.items())},
        reasons=dict(Counter(one.why_not for one in points if one.case is None)),
        errors=errors,
    )


def family_of(point: Point) -> str:
    """Return the model of a point by its catalogue name, or as the file names it."""
    network = point.case.network if point.case else find_network(point.model)
    return network.name if network is not None and network.known else point.model


@dataclass(frozen=True, slots=True)
class _Scorer:
    errors: npt.NDArray[np.float64]
    inside: npt.NDArray[np.float64]
    refused: npt.NDArray[np.bool_]

    def of(self, rows: list[int]) -> Score:
        errors, inside = self.errors[rows], self.inside[rows]
        return Score(
            num_points=len(rows),
            num_not_planned=int(self.refused[rows].sum()),
            ttft_median_percent=_median(errors[:, 0]),
            tpot_median_percent=_median(errors[:, 1]),
            tok_s_median_percent=_median(errors[:, 2]),
            covered_percent=None if np.isnan(inside).all() else round(100 * float(np.nanmean(inside)), 1),
        )


def _median(errors: npt.NDArray[np.float64]) -> float | None:
    there = errors[~np.isnan(errors)]
    return round(100 * float(np.median(there)), 1) if len(there) else None
