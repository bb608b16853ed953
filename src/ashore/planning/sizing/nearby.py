"""What was measured near a case, and how far physics and trees were from it there.

A plan is moved by what was missed at the measurements around it: a mean over those of the same engine, precision and
kind of load, each weighted by how like it is. With no measurement near, nothing moves. `benchmarks/plan_fit.py` writes
`measured.json`, which holds the settings and the misses, not the figures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ashore.planning.sizing.case import Case
from ashore.planning.sizing.chips import Chip
from ashore.planning.sizing.networks import Network

Array = npt.NDArray[np.float64]

RELATIVES: Final = np.array([0.1, 0.3, 0.3])
"""How much another model or device counts that is quite alike, for a first token, a time a token, a speed."""
NOTHING: Final = 0.1
"""What counts as a measurement that was met exactly: few and far ones move little."""
_LOAD: Final = np.array([0.6, 0.6, 0.6, 0.35, 0.35, 0.35, 0.5])
"""Logarithms of prompt, answer, requests at once, devices to a layer, groups, devices to the experts; and years: so far
apart, a measurement counts 0.6 of one in the same place."""
_LIKENESS: Final = np.array([1.0, 1.0, 3.0, 1.0, 0.5, 0.5, 0.5])
"""The same for active and all parameters, experts, chosen experts; bandwidth, arithmetic, memory of a device."""
KNOWN: Final = 1.0
"""How much nearer, as half a squared distance, a pair is cited for having the same device, or the same model."""
OFTEN: Final = 0.3
"""The same for having e times as many measurements."""


@dataclass(frozen=True, slots=True)
class Near:
    """What the measurements around some cases say."""

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
class _Group:
    """Measurements of one engine, precision and kind of load, on devices of one maker."""

    load: Array
    likeness: Array
    pair: npt.NDArray[np.int64]
    left: Array
    """Logarithms of measured over planned; 0 where nothing was measured."""
    there: Array
    """1 where something was."""


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
        """Return how far the measurements around some cases were from what was planned for them."""
        moved, weight = np.zeros((len(cases), 3)), np.zeros(len(cases))
        rows: dict[str, list[int]] = defaultdict(list)
        for row, case in enumerate(cases):
            rows[kind_of(case)].append(row)
        for kind, here in rows.items():
            if (group := self.groups.get(kind)) is None:
                continue
            some = [cases[row] for row in here]
            close = np.exp(-_apart(np.array([load_of(case) for case in some]) / _LOAD, group.load))
            alike = np.exp(
                -_apart(np.array([likeness_of(case.network, case.chip) for case in some]) / _LIKENESS, group.likeness)
            )
            pair = np.array([self.pairs.get(pair_of(case), -1) for case in some])
            is_same = pair[:, None] == group.pair[None]
            weight[here] = (close * is_same).sum(axis=1)
            for quantity, relatives in enumerate(RELATIVES):
                counts = close * np.where(is_same, 1.0, relatives * alike)
                total = counts @ group.there[:, quantity] + NOTHING
                moved[here, quantity] = counts @ group.left[:, quantity] / total
        return Near(moved, weight)

    def nearest(self, network: Network, chip: Chip, number: int = 3) -> tuple[Evidence, ...]:
        """Return what was published of a model on a device, then of pairs that are like it and measured often."""
        apart = _apart(likeness_of(network, chip)[None] / _LIKENESS, self.likeness)[0]
        for (device, model), place in self.pairs.items():
            shared = (device == chip.name) + (model == network.name)
            apart[place] -= inf if shared == 2 else KNOWN * shared + OFTEN * log(self.evidence[place].num_points)
        return tuple(self.evidence[place] for place in np.argsort(apart, kind="stable")[:number])


def device_name(case: Case) -> str:
    """Return the device of a case, and what is beside it."""
    return f"{case.chip.name} with CPU" if case.host else case.chip.name


def pair_of(case: Case) -> tuple[str, str]:
    return device_name(case), case.network.name


def kind_of(case: Case) -> str:
    """Return what a measurement must share with a case to say anything of it."""
    flags = (("p99", case.statistic == "p99"), ("official", case.official), ("drafts", case.speculative))
    told = [name for name, holds in (*flags, ("eager", case.eager)) if holds]
    return " ".join((case.chip.vendor, case.engine or "-", case.precision.name, case.load_kind, *told))


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
    """Return what `measured.json` holds of measurements.

    Args:
        cases: What was measured.
        sources: Where each was published.
        left: Logarithms of measured over planned, NaN where nothing was measured; one row for each.
    """
    pairs = {pair_of(case): likeness_of(case.network, case.chip) for case in cases}
    setups: dict[tuple[Any, ...], list[list[Any]]] = defaultdict(list)
    places = {pair: place for place, pair in enumerate(pairs)}
    for case, source, missed in zip(cases, sources, left, strict=True):
        isl, osl, load, *layout, year = (round(float(value), 3) for value in load_of(case))
        setup = (kind_of(case), places[pair_of(case)], source, *layout, year)
        setups[setup].append([isl, osl, load, *(None if np.isnan(one) else round(float(one), 3) for one in missed)])
    return {
        "pairs": [[*pair, *(round(float(value), 3) for value in like)] for pair, like in pairs.items()],
        "setups": [[*setup, rows] for setup, rows in setups.items()],
    }


def measurements_of(told: Mapping[str, Any]) -> Measurements:
    """Return measurements as `tell` wrote them."""
    pairs = {(device, model): place for place, (device, model, *_) in enumerate(told["pairs"])}
    likeness = np.array([like for _, _, *like in told["pairs"]]).reshape(-1, len(_LIKENESS))
    groups: dict[str, list[Any]] = defaultdict(list)
    engines: dict[int, Counter[str]] = defaultdict(Counter)
    sources: dict[int, Counter[str]] = defaultdict(Counter)
    for kind, place, source, tp, groups_of, ep, year, rows in told["setups"]:
        engines[place][kind.split()[1]] += len(rows)
        sources[place][source] += len(rows)
        groups[kind] += [(place, (isl, osl, load, tp, groups_of, ep, year), left) for isl, osl, load, *left in rows]
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


def _group(rows: Sequence[Any], likeness: Array) -> _Group:
    place, load, left = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    pair = place.astype(np.int64)
    there = ~np.isnan(left)
    return _Group(load / _LOAD, likeness[pair] / _LIKENESS, pair, np.where(there, left, 0.0), there * 1.0)
