"""The steps from a parent in memory to the smaller model: choose, cut, refit, heal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ashore.engines import Told
from ashore.errors import Bug
from ashore.optimize.pruning.cutting import choose_cut
from ashore.optimize.pruning.healing import HealOptions, heal
from ashore.optimize.pruning.lessons import Lessons
from ashore.optimize.pruning.planning import PrunePlan
from ashore.optimize.pruning.unfinished import Unfinished
from ashore.optimize.pruning.zeroing import zero_smallest
from ashore.optimize.surgery import anatomy_of_config, cut_student, refit
from ashore.training import Watcher, answer_loss, mean_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Nats per target on examples that nothing was decided or learned on; None where that step was not done."""

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
    """Return a smaller model made of `parent`, which is not changed.

    Args:
        parent: A `PreTrainedModel`.
        plan: How many of each part stay.
        lessons: The texts.
        options: How it is healed, where `lessons.corpus` says that it is.
        unfinished: Where it stands is kept there, and taken from there; None: nowhere.
        told: Hears each step but those of healing.
        watch: Hears each step of healing.
        stop: Asked after each step of healing.

    Raises:
        KeyboardInterrupt: `stop` said yes; where the healing stands is kept.
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
    """Check that what was cut has the parameters that were announced."""
    has = sum(p.numel() for p in child.parameters())
    if has != plan.parameters_after or anatomy_of_config(child.config.to_dict(), name="it").sizes != plan.after:
        raise Bug(f"the model that was cut has {has:,} parameters; planned were {plan.parameters_after:,}")
