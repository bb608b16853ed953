"""The steps from a parent in memory to the smaller model: choose, cut, refit, heal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ashore.core.errors import Bug
from ashore.data.engines import Samples, Told, torch_libraries
from ashore.lab.optimize.pruning.healing import HealOptions, heal
from ashore.lab.optimize.pruning.lessons import Lessons
from ashore.lab.optimize.pruning.measuring import choose_layers
from ashore.lab.optimize.pruning.planning import PrunePlan
from ashore.lab.optimize.pruning.unfinished import Unfinished
from ashore.lab.optimize.surgery import StudentPlan, anatomy_of_config, cut_student, measure_teacher, refit
from ashore.lab.training import Watcher, answer_loss, mean_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Nats per target on held-out examples; None if that step was skipped."""

    parent: float | None = None
    cut: float | None = None
    """As it was cut, matrices not fitted again."""
    refitted: float | None = None
    healed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The smaller model, in memory."""

    model: Any = field(repr=False)
    layers: tuple[int, ...]
    """Which layers of the parent it has."""
    losses: Losses
    healed_tokens: int = 0


def zero(model: Any, plan: PrunePlan) -> Pruned:
    """Set the smallest weights of `model` to 0, in place."""
    zero_smallest(model, plan.zeroed)
    return Pruned(model=model, layers=tuple(range(plan.before.layers)), losses=Losses())


def prune(
    parent: Any,
    plan: PrunePlan,
    lessons: Lessons,
    options: HealOptions,
    unfinished: Unfinished | None,
    *,
    told: Told,
    watch: Watcher,
    stop: Callable[[], bool],
) -> Pruned:
    """Return a smaller model made from `parent`, which is not changed.

    Args:
        parent: A `PreTrainedModel`.
        plan: How many of each part stay.
        lessons: The texts.
        options: Options of healing, if there is a `lessons.corpus`.
        unfinished: Stores progress and resumes from it; None: no progress is stored.
        told: Called with each step except those of healing.
        watch: Called with each step of healing.
        stop: Called after each step of healing; True stops.

    Raises:
        KeyboardInterrupt: `stop` returned True; the progress of healing is stored.
        TrainingDiverged, DiskFull.
    """
    cut = unfinished.cut() if unfinished else None
    if cut is None:
        cut = choose_cut(parent, plan, lessons.measured, told)
        if unfinished:
            unfinished.keep_cut(cut)
    child = cut_student(parent, cut)
    _require_size(child, plan)
    told("measure the cut", 0.0)
    losses = {"parent": _loss(parent, lessons), "cut": _loss(child, lessons)}
    refit(child, parent, cut.layers, lessons.measured, told)
    losses["refitted"] = _loss(child, lessons)
    tokens = 0
    if lessons.corpus is not None:
        tokens = heal(
            child, parent, lessons.corpus, options, unfinished.state if unfinished else None, watch=watch, stop=stop
        )
        losses["healed"] = _loss(child, lessons)
    return Pruned(model=child, layers=cut.layers, losses=Losses(**losses), healed_tokens=tokens)


def _loss(model: Any, lessons: Lessons) -> float | None:
    aside = lessons.aside
    if not aside.num_examples:
        return None
    return mean_loss(model, (aside.batch((number,)) for number in range(aside.num_examples)), answer_loss)


def _require_size(child: Any, plan: PrunePlan) -> None:
    """Check that the cut model has the announced number of parameters."""
    has = sum(p.numel() for p in child.parameters())
    if has != plan.parameters_after or anatomy_of_config(child.config.to_dict(), name="it").sizes != plan.after:
        raise Bug(f"the pruned model has {has:,} parameters; expected {plan.parameters_after:,}")


def zero_smallest(model: Any, zeros: int) -> int:
    """Set the smallest weights of the layers' matrices to 0, in place, the same share of each; return how many.

    Dense products multiply by 0 like any number, so size and speed do not change.

    Args:
        model: A `PreTrainedModel`.
        zeros: How many weights, of all layers together.

    Source: Han and others, "Learning both Weights and Connections" (arXiv 1506.02626), section 3.
    """
    torch, _ = torch_libraries()
    weights = [m.weight for layer in model.model.layers for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    total = sum(w.numel() for w in weights)
    done = 0
    with torch.inference_mode():
        for weight in weights:
            here = round(zeros * weight.numel() / total)
            if here:
                smallest = weight.abs().flatten().topk(here, largest=False).indices
                weight.view(-1)[smallest] = 0
                done += here
    return done


MEASURED_SAMPLES = 16
"""Samples on which parts are measured; refitting and healing see more."""


def choose_cut(model: Any, plan: PrunePlan, samples: Samples, told: Told) -> StudentPlan:
    """Return the parts of `model` that stay, in the numbers of `plan`.

    Layers are removed greedily by measured loss. Each remaining layer keeps the channels and groups with the largest
    effect: root mean square of their output times the norm of the following weights.

    Args:
        model: A `PreTrainedModel`, which is not changed.
        plan: How many of each part.
        samples: Token ids, all of one length.
        told: Called with the progress.
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
    """Return the positions of the `count` largest numbers, ascending; of equal ones the first."""
    return tuple(int(i) for i in np.sort(np.argsort(-importance, kind="stable")[:count]))
