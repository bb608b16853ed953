"""A private run from a plan to an adapter that is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.errors import UnsupportedModel
from ashore.store import ModelStore, VariantRecipe
from ashore.training.adapters import keep_adapter
from ashore.training.private import PrivateOptions, train_private
from ashore.training.sftmodel import SftPlan
from ashore.training.shards.cache import Say
from ashore.training.trainee import Trainee

MAKER: Final = "sft-private"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateReport:
    """What came out of a private run. There is no loss in it: that would tell of the examples."""

    name: str
    parent: str
    folder: str
    epsilon: float
    delta: float
    noise: float
    steps: int
    expected_batch: int
    seconds: float


def run_private(
    store: ModelStore,
    plan: SftPlan,
    options: PrivateOptions,
    *,
    epsilon: float,
    delta: float,
    adapters: Path,
    say: Say = lambda line: None,
    watch: Callable[[int], None] = lambda step: None,
) -> PrivateReport:
    """Train an adapter privately, and keep it under the plan's name.

    Raises:
        UnsupportedModel: the model is sealed, or the plan is none for an adapter.
        TrainingDiverged: see `train_private`.
    """
    if plan.kind != "adapter" or plan.parent.sealed is not None:
        raise UnsupportedModel(
            f"a private run makes an adapter of a model that is not sealed; {plan.parent.name} "
            + ("is sealed" if plan.parent.sealed is not None else f"is to become a {plan.kind}"),
            hint="leave out --merge",
        )
    began_s = time.monotonic()
    with store.reading(plan.parent.reference) as files, store.scratch(plan.parent) as scratch:
        trained = Trainee(plan, files, "float32", say)
        with contextlib.closing(plan.data):
            steps = train_private(trained.model, plan.data, options, watch=watch)
        made = scratch / "made"
        trained.export(made)
        recipe = private_recipe(trained.recipe_of(steps), options, epsilon=epsilon, delta=delta)
        folder = keep_adapter(made, adapters, plan.name, parent=plan.parent, recipe=recipe)
    return PrivateReport(
        name=plan.name,
        parent=plan.parent.reference,
        folder=str(folder),
        epsilon=epsilon,
        delta=delta,
        noise=options.noise,
        steps=steps,
        expected_batch=options.expected_batch,
        seconds=time.monotonic() - began_s,
    )


def private_recipe(recipe: VariantRecipe, options: PrivateOptions, *, epsilon: float, delta: float) -> VariantRecipe:
    """Return a recipe that says what was promised. It cannot be made again: its noise has no seed."""
    return dataclasses.replace(
        recipe,
        maker=MAKER,
        parameters={
            **recipe.parameters,
            "private": "yes",
            "epsilon": repr(epsilon),
            "delta": repr(delta),
            "unit": "example",
            "noise": repr(options.noise),
            "clip": repr(options.clip),
            "num_units": str(options.num_units),
            "expected_batch": str(options.expected_batch),
        },
    )
