"""Which parts of a model go: measured on text, then decided."""

from __future__ import annotations

from typing import Any

import numpy as np

from ashore.engines import Samples, Told
from ashore.optimize.pruning.measuring import choose_layers
from ashore.optimize.pruning.planning import PrunePlan
from ashore.optimize.surgery import StudentPlan, measure_teacher

MEASURED_SAMPLES = 16
"""Samples on which parts are measured; refitting and healing see more."""


def choose_cut(model: Any, plan: PrunePlan, samples: Samples, told: Told) -> StudentPlan:
    """Return the parts of `model` that stay, in the numbers of `plan`.

    Layers go greedily by measured loss. Of every layer that stays, the channels and groups that do most stay: root mean
    square of what they give times the norm of the weights that it goes through.

    Args:
        model: A `PreTrainedModel`, which is not changed.
        plan: How many of each part.
        samples: Token ids, all of one length.
        told: Hears of the progress.
    """
    some = samples[:MEASURED_SAMPLES]
    gone = plan.before.layers - plan.after.layers
    layers = choose_layers(model, some, gone, told) if gone else tuple(range(plan.before.layers))
    told("measure parts", 0.0)
    measure = measure_teacher(model, some)
    return StudentPlan(
        layers=layers,
        channels=tuple(_best(measure.channels_LI[layer], plan.after.channels) for layer in layers),
        hidden=tuple(range(len(measure.hidden_H))),
        groups=tuple(_best(measure.groups_LG[layer], plan.after.groups) for layer in layers),
    )


def _best(importance: np.ndarray[Any, np.dtype[np.float64]], count: int) -> tuple[int, ...]:
    """Return the places of the `count` largest numbers, in rising order; of equal ones the first."""
    return tuple(int(i) for i in np.sort(np.argsort(-importance, kind="stable")[:count]))
