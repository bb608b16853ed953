"""A private run from a plan to a stored adapter."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.kit.store import ModelStore, VariantRecipe
from ashore.lab.training.adapters import keep_adapter
from ashore.lab.training.batches import Row
from ashore.lab.training.private import PrivateOptions, people, train_private
from ashore.lab.training.sftmodel import SftPlan
from ashore.lab.training.shards.places import Say
from ashore.lab.training.trainee import Trainee

MAKER: Final = "sft-private"
Unit = Literal["example", "person"]
"""What a promise is made to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateReport:
    """Result of a private run. It has no loss, which would reveal information about the examples."""

    name: str
    parent: str
    folder: str
    epsilon: float
    delta: float
    unit: Unit
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
    """Train an adapter privately, and store it under the plan's name.

    Args:
        store: Has the model.
        plan: What is trained on what. If its request has a field `person`, the promise is made to each person;
            otherwise to each example.
        options: How.
        epsilon: What the run is worth, for the recipe.
        delta: The same.
        adapters: Where the adapters of this installation lie.
        say: Called with notes for the user of the data.
        watch: Called with how many steps are done.

    Raises:
        InvalidRequest: no document has the field.
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
        trained = Trainee(plan, files, "float32")
        members = _people(plan, options, say) if plan.request.person else None
        steps = train_private(trained.model, plan.data, options, members=members, watch=watch)
        made = scratch / "made"
        trained.export(made)
        unit: Unit = "person" if plan.request.person else "example"
        recipe = private_recipe(trained.recipe_of(steps), options, epsilon=epsilon, delta=delta, unit=unit)
        folder = keep_adapter(made, adapters, plan.name, parent=plan.parent, recipe=recipe)
    return PrivateReport(
        name=plan.name,
        parent=plan.parent.reference,
        folder=str(folder),
        epsilon=epsilon,
        delta=delta,
        unit=unit,
        noise=options.noise,
        steps=steps,
        expected_batch=options.expected_batch,
        seconds=time.monotonic() - began_s,
    )


def _people(plan: SftPlan, options: PrivateOptions, say: Say) -> tuple[Row, ...]:
    whose, field = plan.data.people, plan.request.person
    found = people(whose, plan.data.lengths, options.row_tokens)
    if not found:
        raise InvalidRequest(
            f"no example of {plan.data.used.name} has the field {field!r}",
            hint='each line needs it beside what is learned: {"user": "…", "messages": [...]}; --person names another. '
            "Texts and Parquet have none",
        )
    nobody, left_out = whose.count(""), len(whose) - sum(map(len, found))
    if left_out:
        say(
            f"{left_out} examples are left out: {nobody} of nobody, and {left_out - nobody} beyond the "
            f"{options.row_tokens:,} tokens that one person has"
        )
    return found


def private_recipe(
    recipe: VariantRecipe, options: PrivateOptions, *, epsilon: float, delta: float, unit: Unit = "example"
) -> VariantRecipe:
    """Return a recipe with the privacy guarantee. It cannot be reproduced: its noise has no seed."""
    return dataclasses.replace(
        recipe,
        maker=MAKER,
        parameters={
            **recipe.parameters,
            "private": "yes",
            "epsilon": repr(epsilon),
            "delta": repr(delta),
            "unit": unit,
            "noise": repr(options.noise),
            "clip": repr(options.clip),
            "num_units": str(options.num_units),
            "expected_batch": str(options.expected_batch),
        },
    )
