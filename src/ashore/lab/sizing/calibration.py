"""Calibration on published measurements: efficiencies, their errors, and their coverage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import log1p
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ashore.lab.sizing.case import Case
from ashore.lab.sizing.chips import Chip
from ashore.lab.sizing.nearby import Evidence, Measurements, measurements_of, pair_of
from ashore.lab.sizing.networks import Network
from ashore.lab.sizing.steps import Array, Batch, Efficiencies, Times, make_batch, times

QUANTITIES: Final = ("first_s", "token_s", "tokens_per_s")
Trust = Literal["measured", "fitted", "neighbour", "new model", "new device"]
TRUST: Final[Mapping[Trust, str]] = {
    "measured": "this model was measured on this device with nearly this layout, load and lengths",
    "fitted": "this model on this device is among the measurements, with other layouts, loads or lengths",
    "neighbour": "the device and the model are among the measurements, but not together",
    "new model": "the model is not among the measurements; its shape is",
    "new device": "the device is not among the measurements; the figures of its data sheet are",
}


HELD_OUT: Final[Mapping[str, str]] = {
    "row": "single measurements",
    "setup": "set-ups of a known model on a known device",
    "pair": "pairs of model and device",
    "family": "models",
    "hardware": "devices",
}
"""What was left out of the fit for each degree of trust, to see how far it is missed."""
NEAR_ENOUGH: Final = 0.5
"""Weight of the measurements around a case with which it counts as measured."""


def logarithms(found: Times) -> npt.NDArray[np.float64]:
    """Return first token, time a token, and tokens a second as logarithms, one row for each case."""
    said: npt.NDArray[np.float64] = np.log(np.stack([found.first_s, found.token_s, found.tokens_per_s], axis=1))
    return said


def correct(batch: Batch, found: Times, near: Array) -> npt.NDArray[np.float64]:
    """Return the logarithms of the three quantities, corrected by the errors at measurements `near`.

    Under a closed load the throughput follows from the other two; under a sustainable rate, output equals input.
    """
    moved = near.copy()
    is_kept_up = (batch["rate"] > 0) & ((found.concurrency < 0.98 * found.capacity) | (batch["level_token"] > 0))
    moved[is_kept_up, 2] = 0.0
    said: npt.NDArray[np.float64] = logarithms(found) + moved
    whole = np.exp(said[:, 0]) + np.maximum(batch["osl"] - 1, 0) * np.exp(said[:, 1])
    closed = np.log(batch["load"] * batch["osl"] / whole)
    said[:, 2] = np.where(batch["closed"] > 0, closed, said[:, 2])
    return said


@dataclass(frozen=True, slots=True)
class Miss:
    """Median error in percent on held-out points, and their number."""

    first_percent: float | None
    token_percent: float | None
    speed_percent: float | None
    num_points: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of a fit; use `shipped()`."""

    efficiencies: Efficiencies
    measured: Measurements
    """What it was fitted to."""
    intervals: Mapping[str, tuple[tuple[float, float], ...]]
    """By trust and kind of load, the 10th and 90th percentile of what was missed, as logarithms, of each quantity."""
    misses: Mapping[str, Mapping[str, Miss]]
    """By what was held out (`hardware`, `family`, `pair`) and its name; a pair is `DEVICE MODEL`."""
    overall: Mapping[str, Miss]
    fitted_on: str
    thumbs: str
    """How far the vendors' rules of thumb are off, in a sentence."""

    def trust(self, case: Case, weight: float) -> Trust:
        """Return how close the measurements are to a case.

        Args:
            case: The planned case.
            weight: Weight of nearby measurements.
        """
        seen, (device, model) = self.measured.pairs, pair_of(case)
        if (device, model) in seen:
            return "measured" if weight >= NEAR_ENOUGH else "fitted"
        if device not in {one for one, _ in seen}:
            return "new device"
        return "neighbour" if model in {one for _, one in seen} else "new model"

    def evidence(self, network: Network, chip: Chip) -> tuple[tuple[Evidence, Miss | None], ...]:
        """Return the closest published measurements to a model on a device, and their error when held out."""
        found = self.measured.nearest(network, chip)
        return tuple((one, self.misses["pair"].get(f"{one.device} {one.model}")) for one in found)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Figures of many cases: seconds to the first token, seconds a token, output tokens a second.

    Each array has one row for each case and one column for each of the three.
    """

    value: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    """Ten of a hundred measurements are below."""
    high: npt.NDArray[np.float64]
    """Ten of a hundred are above."""
    trust: tuple[Trust, ...]
    physics: Times
    batch: Batch


def estimate(cases: Sequence[Case], calibration: Calibration | None = None) -> Estimate:
    """Return the estimates of cases, with their 80 % intervals.

    Args:
        cases: At least one.
        calibration: None: the shipped one.
    """
    using = calibration or shipped()
    batch = make_batch(cases)
    physics = times(batch, using.efficiencies)
    near = using.measured.near(cases)
    said = correct(batch, physics, near.moved)
    trust = tuple(using.trust(case, weight) for case, weight in zip(cases, near.weight, strict=True))
    bounds = np.array([_bounds(using, one, case) for one, case in zip(trust, cases, strict=True)])
    return Estimate(np.exp(said), np.exp(said + bounds[:, :, 0]), np.exp(said + bounds[:, :, 1]), trust, physics, batch)


def _bounds(using: Calibration, trust: Trust, case: Case) -> tuple[tuple[float, float], ...]:
    """Return the interval of each quantity, as logarithms: from the trust, but at least half of the error on this
    device when it was held out.
    """
    found = _bounds_of_trust(using, trust, case)
    miss = using.misses.get("hardware", {}).get(pair_of(case)[0])
    if miss is None or trust == "measured":
        return found
    missed = (log1p((one or 0.0) / 100) for one in (miss.first_percent, miss.token_percent, miss.speed_percent))
    return tuple((min(low, -band), max(high, band)) for (low, high), band in zip(found, missed, strict=True))


def _bounds_of_trust(using: Calibration, trust: Trust, case: Case) -> tuple[tuple[float, float], ...]:
    kind = "official" if case.official else case.load_kind
    for name in (f"{trust} {kind}", trust):
        if name in using.intervals:
            return using.intervals[name]
    return ((-0.7, 0.7),) * len(QUANTITIES)


@cache
def shipped() -> Calibration:
    """Return the calibration of this version of ashore."""
    folder = files("ashore.lab.sizing")
    told, measured = (
        json.loads(folder.joinpath(name).read_text(encoding="utf-8")) for name in ("efficiencies.json", "measured.json")
    )
    return calibration_of(told, measurements_of(measured))


def calibration_of(told: Mapping[str, Any], measured: Measurements) -> Calibration:
    """Return a calibration from the output of `benchmarks/plan_fit.py`, and its data."""
    return Calibration(
        efficiencies=Efficiencies(told["base"], told["effects"]),
        measured=measured,
        intervals={name: tuple((low, high) for low, high in bounds) for name, bounds in told["intervals"].items()},
        misses={
            held: {name: Miss(*numbers) for name, numbers in table.items()} for held, table in told["misses"].items()
        },
        overall={held: Miss(*numbers) for held, numbers in told["overall"].items()},
        fitted_on=str(told["fitted_on"]),
        thumbs=str(told["thumbs"]),
    )
