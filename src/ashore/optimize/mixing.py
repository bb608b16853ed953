"""Four bits where they cost least: as far as the user's floor allows (`auto`), or everywhere but in the worst places
(`int4`). Every step is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ashore.engines import Layer, Rounded, Rounder, RoundOrder, Samples, Told
from ashore.errors import InvalidRequest
from ashore.optimize.calibration import Calibration
from ashore.optimize.increase import Increase, compare_losses
from ashore.optimize.layersearch import Choice, choice_of, keep_worst, narrow, rank_layers, search_prefix
from ashore.optimize.model import QuantizePlan
from ashore.optimize.ports import Judge, Losses, Mixture, MixtureOpener
from ashore.store import ModelFilesOnDisk

MOST_TRIALS: Final = 7
"""Mixtures that are written and judged as served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMixture:
    """What was chosen; its files lie in the folder that `mix` was given."""

    small: Choice
    made: Rounded
    increase: Increase | None
    """On the held-out text, as served, against half precision in exact arithmetic, for `auto`."""


class Mixer:
    """Chooses layers and writes the mixture."""

    def __init__(self, open_mixture: MixtureOpener, judge: Judge, rounder: Rounder, *, told: Told) -> None:
        self._open_mixture = open_mixture
        self._judge = judge
        self._rounder = rounder
        self._told = told

    def mix(
        self, files: ModelFilesOnDisk, calibration: Calibration, plan: QuantizePlan, scratch: Path, out: Path
    ) -> FoundMixture:
        """Write the mixture that `plan` asks for to `out`.

        Layers are ranked by what each loses alone on the ranking text. With `max_loss` the smallest mixture within it
        is found: a guess on the ranking text, corrected by what the written model, as its engine serves it, loses on
        the held-out text, with one standard error added. Without, the worst layers keep eight bits.

        Raises:
            InvalidRequest: eight bits everywhere lose more than the floor already.
        """
        floor = plan.max_loss
        reference: Losses = () if floor is None else self._reference(files, calibration.held_out, scratch)
        with self._open_mixture(
            files.directory,
            files.weights,
            scratch,
            group_size=plan.group_size,
            samples=calibration.tuning,
            keep_grids=plan.precision.keeps_grids,
            told=lambda stage, share: self._told(stage, 0.05 + 0.25 * share),
        ) as mixture:
            losses = mixture.divergences(
                calibration.ranking, told=lambda stage, share: self._told(stage, 0.3 + 0.4 * share)
            )
            ranked = rank_layers(mixture.layers, losses)
            if floor is None:
                small, increase = keep_worst(ranked, plan.precision.eight_share), None
            else:
                trial = _Trial(mixture, self._judge, calibration.held_out, reference, out, self._told)
                small, increase = self._smallest(mixture, ranked, calibration.ranking, trial, floor, plan)
            made = mixture.write(small, out, told=self._told)
        facts = {**made.facts, "precision": plan.precision.name}
        if increase is not None:
            facts["held_out"] = str(increase)
        return FoundMixture(small=small, increase=increase, made=replace(made, facts=facts))

    def _smallest(
        self,
        mixture: Mixture,
        ranked: tuple[Layer, ...],
        ranking: Samples,
        trial: _Trial,
        floor: float,
        plan: QuantizePlan,
    ) -> tuple[Choice, Increase]:
        guess = search_prefix(ranked, lambda small: math.expm1(mixture.divergence(small, ranking)), floor=floor)
        found = narrow(
            len(guess.small),
            lambda count: trial(choice_of(ranked, count)),
            floor=floor,
            most=len(ranked),
            trials=MOST_TRIALS,
        )
        if found is None:
            raise InvalidRequest(
                f"{plan.parent.name} in eight bits everywhere loses too much on the held-out text: "
                f"{trial(frozenset())}; {floor:.2%} are allowed, the standard error included",
                hint="raise --max-loss, give a longer text, or serve it in half precision (--to fp16)",
                param="max_loss",
            )
        count, increase = found
        return choice_of(ranked, count), increase

    def _reference(self, files: ModelFilesOnDisk, text: Samples, scratch: Path) -> Losses:
        """Return what half precision, in exact arithmetic, makes of a text."""
        folder = scratch / "half"
        folder.mkdir()
        order = RoundOrder(precision="fp16")
        made = self._rounder(files.directory, files.weights, order, folder, told=lambda stage, share: None)
        self._told("measure", 0.04)
        return self._judge(folder, made, text, exact=True)


class _Trial:
    """Writes a mixture and says what it loses, as served."""

    def __init__(self, mixture: Mixture, judge: Judge, text: Samples, reference: Losses, out: Path, told: Told) -> None:
        self._mixture, self._judge, self._text = mixture, judge, text
        self._reference, self._out, self._told = reference, out, told
        self._count = 0

    def __call__(self, small: Choice) -> Increase:
        self._count += 1
        self._told(f"try {len(small)} layers", min(0.7 + 0.04 * self._count, 0.98))
        made = self._mixture.write(small, self._out, told=lambda stage, share: None)
        return compare_losses(self._judge(self._out, made, self._text), self._reference)
