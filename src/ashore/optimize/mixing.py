"""Four bits where they cost least: as far as the user's floor allows (`auto`), or everywhere but in the worst places
(`int4`). Every step is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ashore.engines import Layer, Rounded, Rounder, RoundOrder, Samples, Told, quietly
from ashore.errors import InvalidRequest
from ashore.optimize.calibration import Calibration
from ashore.optimize.increase import Increase, compare_losses
from ashore.optimize.inputs import ROUND_ALL, Way, ways_of
from ashore.optimize.layersearch import Choice, keep_worst, rank_layers, search_prefix
from ashore.optimize.model import QuantizePlan
from ashore.optimize.ports import Judge, Losses, Mixture, MixtureOpener
from ashore.optimize.trials import Tried, search_choices
from ashore.store import ModelFilesOnDisk

MOST_TRIALS: Final = 12
"""Mixtures that are written and judged as served, on all of the held-out text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMixture:
    """What was chosen; its files lie in the folder that `mix` was given."""

    small: Choice
    way: Way
    """What becomes of the inputs."""
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
        is found: a guess on the ranking text, then trials of written models, as their engine serves them, on the
        held-out text, with one standard error added, or more where many trials ask for it; where the rounding of
        activations takes more of the floor than four bits do, they are left as they are. Without, the worst layers keep
        eight bits.

        Raises:
            InvalidRequest: eight bits everywhere lose more than the floor already.
        """
        floor = plan.max_loss
        seen: dict[str, str] = {}
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
                small, way, increase = keep_worst(ranked, plan.precision.eight_share), ROUND_ALL, None
            else:
                guess = search_prefix(
                    ranked, lambda small: math.expm1(mixture.divergence(small, calibration.ranking)), floor=floor
                )
                judge = _Judging(mixture, self._judge, calibration.held_out, reference, out, self._told)
                found, seen = self._smallest(ranked, judge, len(guess.small), floor, plan)
                small, way, increase = found.small, found.way, found.increase
            made = mixture.write(small, way.unrounded, out, told=self._told)
        facts = {**made.facts, "precision": plan.precision.name, **seen}
        return FoundMixture(small=small, way=way, increase=increase, made=replace(made, facts=facts))

    def _smallest(
        self, ranked: tuple[Layer, ...], judge: _Judging, guess: int, floor: float, plan: QuantizePlan
    ) -> tuple[Tried, dict[str, str]]:
        """Return what was chosen, and what is worth reading of how it was found."""
        ways = ways_of(ranked) if plan.activations == "any" else (ROUND_ALL,)
        trials = search_choices(ranked, judge, floor=floor, first=guess, most=MOST_TRIALS, ways=ways)
        best = trials.best()
        if best is None:
            eight = min((trials.look(frozenset(), way) for way in (ways[0], ways[-1])), key=lambda each: each.mean)
            raise InvalidRequest(
                f"{plan.parent.name} in eight bits everywhere loses too much on the held-out text: {eight}; "
                f"{floor:.2%} are allowed, {trials.num_errors:.1f} standard errors included, for {len(trials)} trials",
                hint="raise --max-loss, give a longer text, or serve it in half precision (--to fp16)",
                param="max_loss",
            )
        errors = f"{trials.num_errors:.2f} standard errors make {best.increase.reaches(trials.num_errors):+.2%}"
        seen = {
            "activations": best.way.told,
            "held_out": str(best.increase),
            "trials": f"{len(trials)}; for so many {errors}",
            "held_out_int8": str(trials.look(frozenset(), ROUND_ALL)),
        }
        if best.way.unrounded:
            seen["held_out_int8_unrounded"] = str(trials.look(frozenset(), ways[-1]))
            seen["speed"] = best.way.speed
        return best, seen

    def _reference(self, files: ModelFilesOnDisk, text: Samples, scratch: Path) -> Losses:
        """Return what half precision, in exact arithmetic, makes of a text."""
        folder = scratch / "half"
        folder.mkdir()
        order = RoundOrder(precision="fp16")
        made = self._rounder(files.directory, files.weights, order, folder, told=lambda stage, share: None)
        self._told("measure", 0.04)
        return self._judge(folder, made, text, exact=True)


class _Judging:
    """Writes a mixture and says what it loses, as served; the user hears of each."""

    def __init__(self, mixture: Mixture, judge: Judge, text: Samples, reference: Losses, out: Path, told: Told) -> None:
        self._mixture, self._judge, self._text = mixture, judge, text
        self._reference, self._out, self._told = reference, out, told
        self._count = 0

    def __call__(self, small: Choice, way: Way) -> Increase:
        share = 0.7 + 0.28 * self._count / MOST_TRIALS
        self._count += 1
        said = f"trial {self._count} of {MOST_TRIALS}, {len(small)} layers, activations {way.told}"
        self._told(said, share)
        made = self._mixture.write(small, way.unrounded, self._out, told=quietly)
        increase = compare_losses(self._judge(self._out, made, self._text), self._reference)
        self._told(f"{said}: {increase.mean:+.2%}, {increase.upper:+.2%} with one standard error", share)
        return increase
