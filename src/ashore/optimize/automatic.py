"""`--to auto`: four bits where they cost least, as far as the user's floor allows; every step is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.engines import Rounded, Rounder, RoundOrder, Samples, Told
from ashore.errors import InvalidRequest
from ashore.optimize.calibration import Calibration
from ashore.optimize.layersearch import Choice, choice_of, narrow, rank_layers, search_prefix
from ashore.optimize.model import QuantizePlan
from ashore.optimize.ports import Judge, Mixture, MixtureOpener
from ashore.store import ModelFilesOnDisk

MOST_TRIALS: Final = 7
"""Mixtures that are written and judged as served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMixture:
    """The smallest mixture within the floor; its files lie in the folder that `find` was given."""

    small: Choice
    increase: float
    """Of the perplexity on the held-out text, as served, against half precision in exact arithmetic."""
    made: Rounded


class Automatic:
    """Finds it."""

    def __init__(self, open_mixture: MixtureOpener, judge: Judge, rounder: Rounder, *, told: Told) -> None:
        self._open_mixture = open_mixture
        self._judge = judge
        self._rounder = rounder
        self._told = told

    def find(
        self, files: ModelFilesOnDisk, calibration: Calibration, plan: QuantizePlan, scratch: Path, out: Path
    ) -> FoundMixture:
        """Write the smallest mixture within `plan.max_loss` to `out`.

        Layers are ranked, and a first guess is found, on the ranking text; the guess is then corrected by what the
        written model, as its engine serves it, loses on the held-out text.

        Raises:
            InvalidRequest: eight bits everywhere lose more than the floor already.
        """
        assert plan.max_loss is not None
        floor = plan.max_loss
        ranking, held_out = calibration.ranking, calibration.held_out
        reference = self._reference(files, held_out, scratch)
        with self._open_mixture(
            files.directory,
            files.weights,
            scratch,
            group_size=plan.group_size,
            samples=calibration.tuning,
            told=lambda stage, share: self._told(stage, 0.05 + 0.25 * share),
        ) as mixture:
            losses = mixture.divergences(ranking, told=lambda stage, share: self._told(stage, 0.3 + 0.4 * share))
            ranked = rank_layers(mixture.layers, losses)
            guess = search_prefix(ranked, lambda small: math.expm1(mixture.divergence(small, ranking)), floor=floor)
            trial = _Trial(mixture, self._judge, held_out, reference, out, self._told)
            found = narrow(
                len(guess.small),
                lambda count: trial(choice_of(ranked, count)),
                floor=floor,
                most=len(ranked),
                trials=MOST_TRIALS,
            )
            if found is None:
                raise InvalidRequest(
                    f"{plan.parent.name} in eight bits everywhere loses {trial(frozenset()):.2%} of perplexity on the "
                    f"held-out text, more than the {floor:.2%} allowed",
                    hint="raise --max-loss, or serve it in half precision (--to fp16)",
                    param="max_loss",
                )
            count, increase = found
            small = choice_of(ranked, count)
            made = mixture.write(small, out, told=self._told)
        return FoundMixture(small=small, increase=increase, made=made)

    def _reference(self, files: ModelFilesOnDisk, text: Samples, scratch: Path) -> float:
        """Return what half precision, in exact arithmetic, makes of a text."""
        folder = scratch / "half"
        folder.mkdir()
        made = self._rounder(
            files.directory, files.weights, RoundOrder(precision="fp16"), folder, told=lambda stage, share: None
        )
        self._told("measure", 0.04)
        return self._judge(folder, made, text, exact=True)


class _Trial:
    """Writes a mixture and says what it loses, as served."""

    def __init__(self, mixture: Mixture, judge: Judge, text: Samples, reference: float, out: Path, told: Told) -> None:
        self._mixture, self._judge, self._text = mixture, judge, text
        self._reference, self._out, self._told = reference, out, told
        self._count = 0

    def __call__(self, small: Choice) -> float:
        self._count += 1
        self._told(f"try {len(small)} layers", min(0.7 + 0.04 * self._count, 0.98))
        made = self._mixture.write(small, self._out, told=lambda stage, share: None)
        return math.expm1(self._judge(self._out, made, self._text) - self._reference)
