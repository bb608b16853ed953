"""Measurements near a case, and the error of the physical model there.

A plan is corrected by the errors at nearby measurements, in two steps: by a mean over broadly similar ones of the same
engine and kind of load, then by the median of the remaining errors at nearly identical ones. Without nearby
measurements nothing is corrected. `benchmarks/plan_fit.py` writes `measured.json`: settings and misses, not figures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ashore.lab.sizing.case import Case
from ashore.lab.sizing.chips import Chip
from ashore.lab.sizing.networks import Network

Array = npt.NDArray[np.float64]

MOST_MOVED: Final = 0.7
"""Share of what the wide mean says that is believed."""
RELATIVES: Final = np.array([0.1, 0.3, 0.3])
"""How much another model or device counts in the near median that is quite alike, for a first token, a time a token, a
speed."""
NOTHING_WIDE: Final = 1.0
NOTHING: Final = 0.1
"""What counts as a measurement that was met exactly. In the mean few and far ones move little by it. In the median
those that count less move nothing, and others move all the way; where their share moved it, a token was 15.3 % off in
place of 14.7 over fourteen mixed sets."""
_NEAR: Final = np.array([0.6, 0.6, 0.6, 0.35, 0.35, 0.35, 0.5])
"""Logarithms of prompt, answer, requests at once, devices to a layer, groups, devices to the experts; and years: so far
apart, a measurement counts 0.6 of one in the same place."""
_WIDE: Final = np.array([1.5, 1.5, 1.5, 1.0, 1.0, 1.0, 1.0])
_LIKENESS: Final = np.array([1.0, 1.0, 3.0, 1.0, 0.5, 0.5, 0.5])
"""The same for active and all parameters, experts, chosen experts; bandwidth, arithmetic, memory of a device. Twice as
far in the wide mean, with bytes of a weight and speed of its units over that of BF16 beside."""
KNOWN: Final = 1.0
"""How much nearer, as half a squared distance, a pair is cited for having the same device, or the same model."""
OFTEN: Final = 0.3
"""The same for having e times as many measurements."""


@dataclass(frozen=True, slots=True)
class Near:
    """Corrections from nearby measurements."""

    moved: Array
    """To be added to the logarithms of first token, time a token, tokens a second; one row for each case."""
    weight: Array
    """Of the measurements of the same model on the same device: 1 for each that is in the same place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was published of a model on a device."""

    model: str
    device: str
    num_points: int
    engines: Mapping[str, int]
    """Points by engine."""
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where cases are, one row for each."""

    load: Array
    likeness: Array
    form: Array
    pair: npt.NDArray[np.int64]
    exact: npt.NDArray[np.str_]

    def wide(self, other: _Places) -> Array:
        """Return the weight of each other case in the wide mean of each of these."""
        apart = _apart(self.load / _WIDE, other.load / _WIDE) + _apart(self.form, other.form)
        likeness = 2 * _LIKENESS
        found: Array = np.exp(-apart - _apart(self.likeness / likeness, other.likeness / likeness))
        return found


@dataclass(frozen=True, slots=True)
class _Group:
    """Measurements of one engine under one kind of load."""

    places: _Places
    left: Array
    """Logarithms of measured over planned; 0 where nothing was measured."""
    rest: Array
    """The same over what was planned and moved by the wide mean."""
    there: Array
    """1 where something was measured."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """Published measurements, as `measured.json` has them."""

    groups: Mapping[str, _Group]
    pairs: Mapping[tuple[str, str], int]
    """Device and model, and their number."""
    likeness: Array
    """Of each pair."""
    evidence: tuple[Evidence, ...]
    """Of each pair."""

    def near(self, cases: Sequence[Case]) -> Near:
        """Return the errors of nearby measurements for some cases."""
        moved, weight = np.zeros((len(cases), 3)), np.zeros(len(cases))
        rows: dict[str, list[int]] = defaultdict(list)
        for row, case in enumerate(cases):
            rows[kind_of(case)].append(row)
        for kind, here in rows.items():
            if (group := self.groups.get(kind)) is None:
                continue
            here_are, there_are = self._places([cases[row] for row in here]), group.places
            wide = here_are.wide(there_are)
            moved[here] = MOST_MOVED * (wide @ group.left) / (wide @ group.there + NOTHING_WIDE)
            close = np.exp(-_apart(here_are.load / _NEAR, there_are.load / _NEAR))
            close = close * (here_are.exact[:, None] == there_are.exact[None])
            alike = np.exp(-_apart(here_are.likeness / _LIKENESS, there_are.likeness / _LIKENESS))
            is_same = here_are.pair[:, None] == there_are.pair[None]
            weight[here] = (close * is_same).sum(axis=1)
            for quantity, relatives in enumerate(RELATIVES):
                counts = close * np.where(is_same, 1.0, relatives * alike)
                moved[here, quantity] += _medians(counts * group.there[:, quantity], group.rest[:, quantity])
        return Near(moved, weight)

    def _places(self, cases: Sequence[Case]) -> _Places:
        return _Places(
            np.array([load_of(case) for case in cases]),
            np.array([likeness_of(case.network, case.chip) for case in cases]),
            np.array([form_of(case) for case in cases]),
            np.array([self.pairs.get(pair_of(case), -1) for case in cases]),
            np.array([exact_of(case) for case in cases]),
        )

    def nearest(self, network: Network, chip: Chip, number: int = 3) -> tuple[Evidence, ...]:
        """Return the published evidence of a model on a device, then of similar pairs with many measurements."""
        apart = _apart(likeness_of(network, chip)[None] / _LIKENESS, self.likeness)[0]
        for (device, model), place in self.pairs.items():
            shared = (device == chip.name) + (model == network.name)
            apart[place] -= inf if shared == 2 else KNOWN * shared + OFTEN * log(self.evidence[place].num_points)
        return tuple(self.evidence[place] for place in np.argsort(apart, kind="stable")[:number])


def _medians(weights: Array, values: Array) -> Array:
    """Return the weighted median of each row, with a zero that weighs `NOTHING`."""
    order = np.argsort(values := np.append(values, 0.0))
    sums = np.cumsum(np.pad(weights, ((0, 0), (0, 1)), constant_values=NOTHING)[:, order], axis=1)
    found: Array = values[order][(2 * sums >= sums[:, -1:]).argmax(axis=1)]
    return found


def device_name(case: Case) -> str:
    """Return the device of a case, and its companion."""
    return f"{case.chip.name} with CPU" if case.host else case.chip.name


def pair_of(case: Case) -> tuple[str, str]:
    return device_name(case), case.network.name


def kind_of(case: Case) -> str:
    """Return the properties that a measurement must share with a case to be relevant."""
    flags = (("p99", case.statistic == "p99"), ("official", case.official), ("drafts", case.speculative))
    told = [name for name, holds in (*flags, ("eager", case.eager)) if holds]
    return " ".join((case.engine or "-", case.load_kind, *told))


def exact_of(case: Case) -> str:
    """Return the further properties that make a measurement nearly identical to a case."""
    return f"{case.chip.vendor} {case.precision.name}"


def form_of(case: Case) -> Array:
    units = getattr(case.chip, case.precision.units) or case.chip.bf16
    return np.array([log(case.precision.weight), log(units / case.chip.bf16)])


def load_of(case: Case) -> Array:
    instances = max(1, case.devices // (case.tp * case.attention_dp))
    sizes = (case.isl, max(case.osl, 1.0), max(case.load / instances, 0.5), case.tp, case.attention_dp, case.ep)
    return np.array([*np.log(sizes), case.year])


def likeness_of(network: Network, chip: Chip) -> Array:
    shape = network.shape
    model = (network.active, network.parameters, 1 + shape.num_experts, 1 + shape.experts_per_token)
    return np.array([log(value) for value in (*model, chip.bandwidth, chip.bf16, chip.memory_bytes)])


def _apart(one: Array, other: Array) -> Array:
    """Return half of the squared distance of each row of one to each of the other."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    halved: Array = np.maximum(squares, 0.0) / 2
    return halved


def tell(cases: Sequence[Case], sources: Sequence[str], left: Array) -> dict[str, Any]:
    """Return the content of `measured.json` for measurements.

    Args:
        cases: What was measured.
        sources: Where each was published.
        left: Logarithms of measured over planned, NaN where nothing was measured; one row for each.
    """
    moved = measurements_of(_tell(cases, sources, left, np.zeros_like(left))).near(cases).moved
    return _tell(cases, sources, left, left - moved)


def _tell(cases: Sequence[Case], sources: Sequence[str], left: Array, rest: Array) -> dict[str, Any]:
    pairs = {pair_of(case): likeness_of(case.network, case.chip) for case in cases}
    setups: dict[tuple[Any, ...], list[list[Any]]] = defaultdict(list)
    places = {pair: place for place, pair in enumerate(pairs)}
    for case, source, missed in zip(cases, sources, np.hstack([left, rest]), strict=True):
        isl, osl, load, *layout, year = (round(float(value), 3) for value in load_of(case))
        form = (round(float(value), 3) for value in form_of(case))
        setup = (kind_of(case), exact_of(case), places[pair_of(case)], source, *form, *layout, year)
        setups[setup].append([isl, osl, load, *(None if np.isnan(one) else round(float(one), 3) for one in missed)])
    return {
        "pairs": [[*pair, *(round(float(value), 3) for value in like)] for pair, like in pairs.items()],
        "setups": [[*setup, rows] for setup, rows in setups.items()],
    }


def measurements_of(told: Mapping[str, Any]) -> Measurements:
    """Return measurements from the output of `tell`."""
    pairs = {(device, model): place for place, (device, model, *_) in enumerate(told["pairs"])}
    likeness = np.array([like for _, _, *like in told["pairs"]]).reshape(-1, len(_LIKENESS))
    groups: dict[str, list[Any]] = defaultdict(list)
    engines: dict[int, Counter[str]] = defaultdict(Counter)
    sources: dict[int, Counter[str]] = defaultdict(Counter)
    for kind, exact, place, source, weight, units, *layout, rows in told["setups"]:
        engines[place][kind.split()[0]] += len(rows)
        sources[place][source] += len(rows)
        groups[kind] += [((*load, *layout), (weight, units), place, exact, left) for *load, left in map(_split, rows)]
    return Measurements(
        {kind: _group(rows, likeness) for kind, rows in groups.items()},
        pairs,
        likeness / _LIKENESS,
        tuple(
            Evidence(
                model=model,
                device=device,
                num_points=sum(engines[place].values()),
                engines=dict(engines[place].most_common()),
                sources=tuple(name for name, _ in sources[place].most_common(3)),
            )
            for (device, model), place in pairs.items()
        ),
    )


def _split(row: Sequence[float | None]) -> tuple[Any, ...]:
    return (*row[:3], row[3:])


def _group(rows: Sequence[Any], likeness: Array) -> _Group:
    load, form, place, exact, left = zip(*rows, strict=True)
    pair, both = np.array(place), np.array(left, dtype=float)
    there = ~np.isnan(both)
    both = np.where(there, both, 0.0)
    places = _Places(np.array(load), likeness[pair], np.array(form), pair, np.array(exact))
    return _Group(places, both[:, :3], both[:, 3:], there[:, :3] * 1.0)
